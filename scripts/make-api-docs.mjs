// Writes docs/library.md from the types and docstrings of src/index.ts. `npm run docs`; --print: to stdout.
import { readFile, writeFile } from 'node:fs/promises';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import prettier from 'prettier';
import ts from 'typescript';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = `${root}docs/library.md`;

/** Values, by chapter. What is exported and stands nowhere here is an error, so that nothing is forgotten. */
const CHAPTERS = [
  [
    'Verbs',
    'What the command line calls. They print nothing; notes and progress go to `onNote` and `onProgress`, and `signal` stops them.',
    [
      'convert',
      'convertWeights',
      'verify',
      'inspect',
      'diff',
      'classify',
      'evaluate',
      'mergeEvaluations',
      'listCatalog',
    ],
  ],
  [
    'Pictures',
    'How a picture becomes an input, bit for bit as Pillow and torchvision do it.',
    ['decodeImage', 'resizeImage', 'preprocess', 'routePreprocessing'],
  ],
  [
    'Architecture',
    'What follows from a config, without any weights.',
    ['complexity', 'inventory', 'relativePositionIndex'],
  ],
  [
    'Errors',
    'A message says what was found and what is needed, `next` what to do. Anything that is no `ConvertBeitError` is a bug of this package.',
    [
      'ConvertBeitError',
      'UsageError',
      'InputError',
      'FormatError',
      'LayoutError',
      'ShapeError',
      'ParityError',
      'NetworkError',
      'EnvironmentError',
      'InterruptedError',
    ],
  ],
  ['Version', '', ['VERSION']],
];

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile).config,
  ts.sys,
  root,
);
const program = ts.createProgram([`${root}src/index.ts`], { ...options, noEmit: true });
const checker = program.getTypeChecker();
const index = program.getSourceFile(`${root}src/index.ts`);

const aliased = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol);
const isType = (symbol) => (symbol.flags & (ts.SymbolFlags.Interface | ts.SymbolFlags.TypeAlias)) !== 0;
const exported = new Map(
  checker
    .getExportsOfModule(checker.getSymbolAtLocation(index))
    .map((symbol) => [symbol.name, aliased(symbol)]),
);
const values = [...exported].filter(([, symbol]) => !isType(symbol)).map(([name]) => name);
const placed = CHAPTERS.flatMap(([, , names]) => names);
for (const name of values)
  if (!placed.includes(name)) throw new Error(`${name} has no chapter in scripts/make-api-docs.mjs`);
for (const name of placed)
  if (!values.includes(name)) throw new Error(`${name} is not exported by src/index.ts`);

/** Types of our own that the exported ones are made of: they have no name to import, and are explained all the same. */
const inner = new Map();
for (const symbol of exported.values()) collect(symbol);

function declarationOf(symbol) {
  const found = symbol.declarations?.find(
    (each) =>
      ts.isFunctionDeclaration(each) ||
      ts.isClassDeclaration(each) ||
      ts.isVariableDeclaration(each) ||
      ts.isInterfaceDeclaration(each) ||
      ts.isTypeAliasDeclaration(each),
  );
  if (!found)
    throw new Error(`${symbol.name} is declared in a way that scripts/make-api-docs.mjs does not know`);
  return found;
}

/** Names of types that a declaration mentions, function bodies left out. */
function mentioned(declaration) {
  const found = new Map();
  const visit = (node) => {
    if (ts.isBlock(node) || ts.isConstructorDeclaration(node)) return;
    if (ts.isTypeReferenceNode(node) || ts.isExpressionWithTypeArguments(node)) {
      const name = ts.isTypeReferenceNode(node) ? node.typeName : node.expression;
      const symbol = aliased(checker.getSymbolAtLocation(name));
      if (symbol.declarations?.[0].getSourceFile().fileName.startsWith(`${root}src/`))
        found.set(symbol.name, symbol);
    }
    ts.forEachChild(node, visit);
  };
  visit(declaration);
  return found;
}

function collect(symbol) {
  for (const [name, other] of mentioned(declarationOf(symbol))) {
    if (!isType(other) || exported.get(name) === other) continue;
    const known = inner.get(name);
    if (known === other) continue;
    if (known || exported.has(name)) throw new Error(`two types are called ${name}`);
    inner.set(name, other);
    collect(other);
  }
}

const anchors = new Map();
const sections = [
  ...CHAPTERS.flatMap(([, , names]) => names),
  ...[...exported]
    .filter(([, symbol]) => isType(symbol))
    .map(([name]) => name)
    .sort(),
  ...[...inner.keys()].sort(),
];
// As GitHub makes them: lower case, the second of the same name is numbered.
const used = new Map(
  ['library-api', ...CHAPTERS.map(([title]) => title.toLowerCase()), 'types', 'parts-of-types'].map(
    (title) => [title, 1],
  ),
);
for (const name of sections) {
  const plain = name.toLowerCase();
  const times = used.get(plain) ?? 0;
  used.set(plain, times + 1);
  anchors.set(name, times === 0 ? plain : `${plain}-${times}`);
}
const link = (name) => (anchors.has(name) ? `[\`${name}\`](#${anchors.get(name)})` : `\`${name}\``);

/** A docstring's text: links resolved, lines joined. */
function prose(text) {
  return text.replace(/\{@link (\w+)\s*\}/g, (_, name) => link(name)).replace(/\r/g, '');
}

function docOf(symbol) {
  return prose(ts.displayPartsToString(symbol.getDocumentationComment(checker)));
}

/** `@param`, `@returns`, `@throws`, `@see` as a list; `@example` apart. */
function tagsOf(symbol) {
  const lines = [];
  const examples = [];
  for (const { name, text } of symbol.getJsDocTags(checker)) {
    const words = prose(ts.displayPartsToString(text));
    const [, subject, rest] = /^(\S+)\s+(?:-\s*)?([\s\S]*)$/.exec(words) ?? [];
    if (name === 'example') examples.push(words.trim());
    else if (name === 'param') lines.push(`- \`${subject}\`: ${rest}`);
    else if (name === 'throws') lines.push(`- **throws** ${words.replaceAll(/\b\w+Error\b/g, link)}`);
    else lines.push(`- **${name}** ${words}`);
  }
  return { lines: lines.map((line) => line.replaceAll(/\s*\n\s*/g, ' ')), examples };
}

const oneLine = (text) =>
  text
    .replaceAll(/\/\*\*[\s\S]*?\*\//g, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
const cell = (text) => text.replaceAll(/\s*\n\s*/g, ' ').replaceAll('|', '\\|');

function fieldRows(members) {
  const rows = members
    .filter((member) => ts.isPropertySignature(member) || ts.isPropertyDeclaration(member))
    .map((member) => {
      const symbol = checker.getSymbolAtLocation(member.name);
      const type = member.type
        ? oneLine(member.type.getText())
        : checker.typeToString(checker.getTypeAtLocation(member));
      return `| \`${member.name.getText()}${member.questionToken ? '?' : ''}\` | \`${cell(type)}\` | ${cell(docOf(symbol))} |`;
    });
  return rows.length === 0 ? '' : ['| field | type | |', '| :-- | :-- | :-- |', ...rows].join('\n');
}

/** What else on this page it is made of. */
function seeAlso(declaration, own) {
  const names = [...mentioned(declaration).keys()].filter((name) => name !== own && anchors.has(name));
  return names.length === 0 ? '' : `See ${names.map(link).join(', ')}.`;
}

function functionSignature(declaration) {
  const parameters = declaration.parameters.map((parameter) => {
    const optional = parameter.questionToken || parameter.initializer ? '?' : '';
    const type = parameter.type
      ? oneLine(parameter.type.getText())
      : checker.typeToString(checker.getTypeAtLocation(parameter));
    return `${parameter.name.getText()}${optional}: ${type}`;
  });
  return `function ${declaration.name.text}(${parameters.join(', ')}): ${oneLine(declaration.type.getText())};`;
}

function render(name, symbol) {
  const declaration = declarationOf(symbol);
  const { lines, examples } = tagsOf(symbol);
  const parts = [`### ${name}`];
  const code = (text) => parts.push(`\`\`\`ts\n${text}\n\`\`\``);
  let members;
  if (ts.isFunctionDeclaration(declaration)) code(functionSignature(declaration));
  else if (ts.isVariableDeclaration(declaration)) code(`const ${name}: ${declaration.type.getText()};`);
  else if (ts.isTypeAliasDeclaration(declaration)) {
    const text = declaration.type.getText();
    // A type that is made of a constant says nothing without the constant.
    const shown = text.includes('typeof')
      ? checker.typeToString(
          checker.getTypeAtLocation(declaration),
          undefined,
          ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.InTypeAlias,
        )
      : text;
    const parameters = declaration.typeParameters
      ? `<${declaration.typeParameters.map((each) => each.getText()).join(', ')}>`
      : '';
    code(`type ${name}${parameters} = ${shown};`);
  } else {
    const bases = (declaration.heritageClauses ?? []).flatMap(({ types }) =>
      types.map((each) => oneLine(each.getText())),
    );
    const kind = ts.isClassDeclaration(declaration) ? 'class' : 'interface';
    if (bases.length > 0) code(`${kind} ${name} extends ${bases.join(', ')}`);
    else if (kind === 'class') code(`class ${name} extends Error`);
    members = fieldRows(declaration.members);
  }
  // Two lists in a row would be one.
  const about = docOf(symbol);
  const apart = /^- .*$/m.test(about.split('\n\n').at(-1)) && lines.length > 0 ? '<!-- -->' : '';
  parts.push(about, apart, lines.join('\n'), members ?? '', seeAlso(declaration, name), ...examples);
  return parts.filter((part) => part !== '').join('\n\n');
}

const chapters = CHAPTERS.map(([title, words, names]) =>
  [`## ${title}`, words, ...names.map((name) => render(name, exported.get(name)))]
    .filter((part) => part !== '')
    .join('\n\n'),
);
const types = [...exported].filter(([, symbol]) => isType(symbol)).sort(([a], [b]) => (a < b ? -1 : 1));
const parts = [...inner].sort(([a], [b]) => (a < b ? -1 : 1));

const text = `<!-- Made from the types and docstrings of src/ by scripts/make-api-docs.mjs (npm run docs). Change those, not this page. -->

# Library API

\`\`\`sh
npm install convert-beit
\`\`\`

ESM with types. Node ≥ 20.19. Verification and \`classify\` need \`onnxruntime-node\`, pictures need \`sharp\`; both are optional
dependencies that npm installs by default. Every example here is a whole module and runs in a checkout, one after the other in
one folder.

${CHAPTERS.map(([title, , names]) => `- **${title}**: ${names.map(link).join(', ')}`).join('\n')}
- **Types**: ${types.map(([name]) => link(name)).join(', ')}

${chapters.join('\n\n')}

## Types

What can be imported with \`import type\`.

${types.map(([name, symbol]) => render(name, symbol)).join('\n\n')}

## Parts of types

What the types above are made of. These names cannot be imported; write \`Inspection['tensors'][number]\` and the like.

${parts.map(([name, symbol]) => render(name, symbol)).join('\n\n')}
`;
const formatted = await prettier.format(text, { ...(await prettier.resolveConfig(page)), filepath: page });
if (process.argv.includes('--print')) process.stdout.write(formatted);
else if ((await readFile(page, 'utf8').catch(() => '')) !== formatted) {
  await writeFile(page, formatted);
  console.log(`${relative(root, page)}: ${sections.length} exports and types`);
}
