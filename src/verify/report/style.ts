/** The page's looks: light and dark as the reader's system has it, one column on a phone, plain on paper. */
export const STYLE = `
:root{color-scheme:light dark;--bg:#f7f8fa;--card:#fff;--ink:#1a1f27;--soft:#5b6573;--rule:#dfe3e9;--line:#1f5fd0;--band:#bcd3f7;--off:#c4281c;--good:#157347;--good-bg:#e2f3e8;--bad-bg:#fbe6e3;--point:#1f5fd0;--code:#eef1f5}
@media (prefers-color-scheme:dark){:root{--bg:#12151a;--card:#1b2027;--ink:#e8ebf0;--soft:#a2adbb;--rule:#323a45;--line:#7fb0ff;--band:#27436f;--off:#ff8a7e;--good:#6fd39b;--good-bg:#173526;--bad-bg:#43201d;--point:#7fb0ff;--code:#262d37}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1rem}
h1{font-size:1.1rem;margin:0 0 .25rem;font-weight:600}
h2{font-size:1.15rem;margin:0 0 .6rem}
h3{font-size:1rem;margin:1rem 0 .3rem}
p{margin:.4rem 0}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:1rem 1.1rem;margin:0 0 1rem}
.verdict{border-left:8px solid var(--good);background:var(--good-bg)}
.verdict.failed{border-left-color:var(--off);background:var(--bad-bg)}
.verdict.skipped{border-left-color:var(--soft);background:var(--card)}
.verdict .big{font-size:1.7rem;line-height:1.2;font-weight:700;margin:0}
.verdict p{overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:.9rem 0 0;padding:0}
.facts div{min-width:0}
dt{color:var(--soft);font-size:.82rem}
dd{margin:0;font-weight:600;overflow-wrap:anywhere}
.pair{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:1rem}
dl.list{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.25rem .9rem;margin:0}
dl.list dt{font-size:.92rem}
dl.list dd{font-weight:400}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.35rem .6rem .35rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule)}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
td.n,th.n{text-align:right;white-space:nowrap}
td.w{white-space:nowrap}
td+td,th+th{padding-left:.7rem}
tr:last-child td{border-bottom:0}
.ok{color:var(--good);font-weight:700;white-space:nowrap}
.no{color:var(--off);font-weight:700;white-space:nowrap}
.bad{color:var(--off);font-weight:700;overflow-wrap:anywhere}
.na{color:var(--soft);white-space:nowrap}
.soft{color:var(--soft)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.86rem}
.hash{overflow-wrap:anywhere}
pre{background:var(--code);border-radius:8px;padding:.7rem .8rem;margin:.4rem 0;white-space:pre-wrap;overflow-wrap:anywhere}
ul{margin:.3rem 0;padding-left:1.2rem}
li{overflow-wrap:anywhere}
figure{margin:0}
figcaption{color:var(--soft);font-size:.88rem;margin:.2rem 0 0}
.chart{display:block;width:100%;height:auto;max-width:46rem;margin:0 auto;font:12.5px system-ui,sans-serif}
.chart text{fill:var(--soft)}
.chart .axis{fill:var(--ink)}
.chart .grid{stroke:var(--rule)}
.chart .zero{stroke:var(--soft);stroke-dasharray:3 3}
.chart .band{fill:var(--band);opacity:.75}
.chart .expected{fill:none;stroke:var(--soft);stroke-dasharray:5 4}
.chart .line{fill:none;stroke:var(--line);stroke-width:2}
.chart .dot{fill:var(--line)}
.chart .off{fill:var(--off)}
.chart .bar{fill:var(--line);opacity:.75}
.chart .whisker{stroke:var(--soft)}
.chart .mean{stroke:var(--ink);stroke-width:2}
.chart .point{fill:var(--point);fill-opacity:.55}
.picture{display:grid;grid-template-columns:minmax(0,11rem) minmax(0,1fr);gap:1rem;margin-top:.8rem;align-items:start}
.picture img{width:100%;height:auto;border-radius:8px}
.pair .chart{font-size:20px}
.share{display:block;height:.35rem;border-radius:3px;background:var(--line);min-width:2px}
@media (max-width:600px){main{padding:.6rem}section{padding:.85rem .8rem;border-radius:10px}.pair{grid-template-columns:minmax(0,1fr)}.picture{grid-template-columns:minmax(0,1fr);gap:.2rem}.picture .pair{grid-template-columns:repeat(2,minmax(0,1fr));gap:.9rem}.picture img{max-width:11rem}.picture table{font-size:.85rem}.scroll table{font-size:.85rem}.scroll th,.scroll td{padding-right:.25rem}.scroll td+td,.scroll th+th{padding-left:.4rem}dl.list{grid-template-columns:minmax(0,1fr);gap:0}dl.list dd{margin-bottom:.4rem}.chart,.pair .chart{font-size:21px}.verdict .big{font-size:1.4rem}.facts{grid-template-columns:repeat(2,minmax(0,1fr))}table.checks thead{display:none}table.checks tr{display:grid;grid-template-columns:1fr auto;border-bottom:1px solid var(--rule);padding:.4rem 0}table.checks td{border:0;padding:.1rem 0}table.checks td:first-child{font-weight:600}table.checks td:nth-child(3){grid-column:1/3}}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#bbb;--line:#1f5fd0;--band:#cfdffa;--off:#b00;--good:#060;--good-bg:#fff;--bad-bg:#fff;--point:#1f5fd0;--code:#f3f3f3}body{font-size:10.5pt}main{max-width:none;padding:0}section{border-color:#bbb}figure,tr,li,.pair,.picture,.verdict{break-inside:avoid}h2,h3,h2+p,h3+p{break-after:avoid}thead{display:table-header-group}.scroll{overflow:visible}.scroll table{font-size:8.5pt}.scroll td:not(.n),.scroll th:not(.n){white-space:normal}details{display:block}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
`
  .split('\n')
  .join('');
