/** The two papers, as their authors ask to be cited. */
export const PAPERS = {
  1: {
    title: 'BEiT: BERT Pre-Training of Image Transformers',
    url: 'https://arxiv.org/abs/2106.08254',
    bibtex: `@inproceedings{beit,
  title     = {{BEiT}: {BERT} Pre-Training of Image Transformers},
  author    = {Hangbo Bao and Li Dong and Songhao Piao and Furu Wei},
  booktitle = {International Conference on Learning Representations},
  year      = {2022},
  url       = {https://openreview.net/forum?id=p-BhZSz59o4}
}`,
  },
  2: {
    title: 'BEiT v2: Masked Image Modeling with Vector-Quantized Visual Tokenizers',
    url: 'https://arxiv.org/abs/2208.06366',
    bibtex: `@article{beitv2,
  title         = {{BEiT v2}: Masked Image Modeling with Vector-Quantized Visual Tokenizers},
  author        = {Zhiliang Peng and Li Dong and Hangbo Bao and Qixiang Ye and Furu Wei},
  year          = {2022},
  eprint        = {2208.06366},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CV}
}`,
  },
} as const;
