/**
 * Which model a set of tensor names belongs to, when it is no BEiT in a layout that is read.
 */
import { printable } from '../errors.js';
import { wrapperPrefix } from './layout.js';

export interface Family {
  /** completes “model.safetensors is …” */
  readonly what: string;
  /** one name of the file that tells */
  readonly evidence: string;
  readonly next: string;
}

interface Row {
  readonly what: string;
  /** all must be found, each in some name; the first one found is the evidence */
  readonly all: readonly RegExp[];
  /** none may be found */
  readonly none?: readonly RegExp[];
  readonly next?: string;
}

const NOT_BEIT = 'Only BEiT v1 and v2 are converted: convert-beit list shows the published classifiers.';
const FINE_TUNED = 'Give a fine-tuned checkpoint: convert-beit list shows the published ones.';

/** First match wins; names are tested without the wrapper prefix. */
const FAMILIES: readonly Row[] = [
  {
    what: 'a BEiT-3 checkpoint (another network)',
    all: [/^beit3\.|\.self_attn\.k_proj\.A\./],
    next: NOT_BEIT,
  },
  { what: 'a Data2Vec vision model', all: [/^data2vec_vision\./] },
  {
    what: 'a vision transformer in the mmpretrain layout',
    all: [/^(backbone\.)?layers\.\d+\.ffn\.layers\.0\.0\./],
    none: [/\.attn\.(q_bias|relative_position_bias_table)$|\.gamma_1$/],
  },
  {
    what: 'a tokenizer of BEiT v2 (VQ-KD), not a classifier',
    all: [/^quantize\./, /^encoder\.blocks\./],
    next: FINE_TUNED,
  },
  {
    what: 'an EVA-02 (SwiGLU or split q, k, v)',
    all: [/^blocks\.\d+\.(mlp\.(fc1_g|w1|w12)\.|attn\.q_proj\.)|^rope\./],
  },
  {
    what: 'a BEiT-3 or another network with norms inside attention and MLP',
    all: [/^blocks\.\d+\.attn\.norm\.weight$/, /^blocks\.\d+\.mlp\.norm\.weight$/],
  },
  {
    what: "a ViT with LayerScale in timm's names (DINOv2, DeiT III)",
    all: [/^blocks\.\d+\.ls1\.gamma$/],
  },
  { what: 'a DINOv2 in the transformers layout', all: [/^dinov2\./] },
  { what: 'a masked autoencoder (MAE)', all: [/^decoder_(blocks|embed)/] },
  { what: 'a distilled DeiT', all: [/^(dist_token|head_dist\.)|^deit\..*distillation_token/] },
  { what: 'a DeiT in the transformers layout', all: [/^deit\./] },
  { what: 'a Swin', all: [/^layers\.\d+\.(blocks\.\d+\.|downsample\.)|^swinv?2?\.encoder\./] },
  { what: 'a ViT in the transformers layout', all: [/^vit\./] },
  {
    what: 'a ViT or DeiT (its qkv has one bias with a part for k; BEiT has q_bias and v_bias)',
    all: [/^blocks\.\d+\.attn\.qkv\.bias$/],
  },
  { what: 'a CLIP', all: [/^(visual\.(transformer|conv1)|vision_model\.|text_model\.|logit_scale$)/] },
  { what: 'an adapter (LoRA), not a whole model', all: [/lora_(A|B|down|up)\b/] },
  {
    what: 'a ResNet or another convolutional network',
    all: [/(^|\.)bn1\.running_mean$|^stages\.\d+\.|^features\.\d+\./],
  },
  {
    what: 'a text model',
    all: [/^(bert|roberta|gpt2|transformer\.h|model\.layers\.\d+\.self_attn)\b|word_embeddings/],
  },
  {
    what: "an optimizer's state, not a model",
    all: [/(^|\.)(exp_avg|exp_avg_sq|momentum_buffer|param_groups|optimizer(_state)?)(\.|$)/],
  },
  {
    what: "a learning rate scheduler's state, not a model",
    all: [/(^|\.)(last_epoch|_step_count|base_lrs|_last_lr)(\.|$)/],
  },
];

/** @returns `undefined` when the names fit nothing known */
export function describeFamily(names: Iterable<string>): Family | undefined {
  const all = [...names];
  const prefix = wrapperPrefix(all);
  const bare = all.map((name) => name.slice(prefix.length));
  for (const { what, all: needed, none = [], next = NOT_BEIT } of FAMILIES) {
    const evidence = needed.map((pattern) => bare.findIndex((name) => pattern.test(name)));
    if (evidence.includes(-1) || none.some((pattern) => bare.some((name) => pattern.test(name)))) continue;
    return { what, evidence: printable(all[evidence[0]]), next };
  }
  return undefined;
}
