/**
 * timm `timm/models/beit.py`: the official names, classifiers and backbones only. The index is no stored buffer since
 * 2023-08 (files on the hub are older and have it). What differs is the published preprocessing.
 */
import type { Layout } from '../layout-table.js';
import { affine, officialBackbone } from './rows.js';

export const timm: Layout = {
  name: 'timm',
  storesIndex: false,
  tables: [
    {
      rules: [
        // timm never had a mask token
        ...officialBackbone('').filter(({ source: [name] }) => name !== 'mask_token'),
        ...affine('norm', 'backbone.ln1'),
        ...affine('fc_norm', 'backbone.ln2'),
        ...affine('head', 'head.fc'),
      ],
    },
  ],
};
