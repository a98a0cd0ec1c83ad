/**
 * Figures that others published for BEiT architectures, to stand beside the computed ones.
 *
 * @see mmpretrain `configs/beit/metafile.yml`; the model cards of timm's BEiT repositories ("GMACs")
 */
import type { BeitConfig } from '../beit.js';
import type { CatalogRow } from './catalog.js';

export interface PublishedFigure {
  readonly what: 'parameters' | 'flops' | 'top-1' | 'top-5';
  /** as published: a rounded one stays rounded */
  readonly value: string;
  readonly by: string;
}

interface Row {
  readonly hiddenSize: number;
  readonly depth: number;
  readonly side: number;
  readonly figures: readonly PublishedFigure[];
}

const METAFILE = "OpenMMLab's metafile";
const CARD = "timm's model card";

const PUBLISHED: readonly Row[] = [
  {
    hiddenSize: 768,
    depth: 12,
    side: 224,
    figures: [
      { what: 'parameters', value: '86,530,984', by: METAFILE },
      { what: 'flops', value: '17,581,219,584', by: METAFILE },
      { what: 'flops', value: '17.6 G', by: CARD },
    ],
  },
  { hiddenSize: 1024, depth: 24, side: 224, figures: [{ what: 'flops', value: '61.6 G', by: CARD }] },
  { hiddenSize: 768, depth: 12, side: 384, figures: [{ what: 'flops', value: '55.5 G', by: CARD }] },
  { hiddenSize: 1024, depth: 24, side: 384, figures: [{ what: 'flops', value: '191.2 G', by: CARD }] },
];

/** Figures for this architecture with 1,000 classes, and the accuracy of this very checkpoint where it is known. */
export function publishedFigures(config: BeitConfig, row?: CatalogRow): PublishedFigure[] {
  const [height, width] = config.imageSize;
  const known = PUBLISHED.find(
    ({ hiddenSize, depth, side }) =>
      hiddenSize === config.hiddenSize &&
      depth === config.depth &&
      side === height &&
      side === width &&
      config.patchSize === 16,
  );
  // Parameters depend on the number of classes; the FLOPs are counted without the head.
  const figures = (known?.figures ?? []).filter(
    ({ what }) => what !== 'parameters' || config.classes === 1000,
  );
  const by = 'upstream, ImageNet-1k validation';
  return [
    ...figures,
    ...(row?.top1 === undefined ? [] : [{ what: 'top-1' as const, value: `${row.top1} %`, by }]),
    ...(row?.top5 === undefined ? [] : [{ what: 'top-5' as const, value: `${row.top5} %`, by }]),
  ];
}
