"""A tiny segmentation model by transformers, its outputs, and the same weights under the official (mmseg) names.

    python scripts/crosscheck/make_segmentation_golden.py <folder>

Writes `config.json`, `hf.safetensors`, `official.safetensors` (unilm `beit/semantic_segmentation` names) and
`io.safetensors`. Two conventions of which blocks feed the pyramid, for the same `out_indices`:
unilm takes the tokens after block i (i counts from 0), transformers those that enter block i - 1, two blocks earlier.

    unilm.*         LayerNorm eps 1e-6, taps hidden[i + 1]
    transformers.*  LayerNorm eps 1e-12 as published, taps hidden[i - 1]; computed by BeitForSemanticSegmentation itself
    hidden.k        tokens after k blocks, eps 1e-6; hidden.0 enters block 0
    *_f64           the same float32 weights, computed in float64
"""

import importlib.util
import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

# transformers asks for torchvision where it is installed, and some installations do not fit their torch.
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.startswith("torchvision") else find(name, *a)
from transformers import BeitConfig, BeitForSemanticSegmentation  # noqa: E402

TAPS = [2, 3, 4, 5]


def build(eps: float) -> BeitForSemanticSegmentation:
    config = BeitConfig(
        image_size=64,
        patch_size=16,
        hidden_size=12,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=20,
        num_labels=5,
        auxiliary_channels=4,
        use_relative_position_bias=True,
        out_indices=TAPS,
        layer_norm_eps=eps,
        hidden_dropout_prob=0.0,
        drop_path_rate=0.0,
        attn_implementation="eager",
    )
    return BeitForSemanticSegmentation(config).eval()


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(20)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            tensor.fill_(int(1000 * abs(noise)) + 1)
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif re.search(r"(norm\w*|lambda_[12])(\.weight)?$", name) or name.endswith("normalization.weight"):
            tensor.copy_(1 + 0.2 * noise)
        else:
            fan = tensor[0].numel() if tensor.dim() > 1 else 10
            tensor.copy_(noise / fan**0.5)


def features(model: BeitForSemanticSegmentation, hidden, taps):
    maps = tuple(hidden[k][:, 1:].transpose(1, 2).reshape(hidden[k].shape[0], -1, 4, 4) for k in taps)
    maps = model.fpn(maps)
    return model.decode_head(maps), model.auxiliary_head(maps)


# unilm's converter to transformers (convert_beit_unilm_to_pytorch.py), read from right to left
NAMES = [
    (r"^beit\.embeddings\.cls_token", "backbone.cls_token"),
    (r"^beit\.embeddings\.patch_embeddings\.projection", "backbone.patch_embed.proj"),
    (r"^beit\.encoder\.layer\.", "backbone.blocks."),
    (r"\.lambda_", ".gamma_"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.attention\.attention\.query\.bias", ".attn.q_bias"),
    (r"\.attention\.attention\.value\.bias", ".attn.v_bias"),
    (r"\.attention\.attention\.relative_position_bias\.", ".attn."),
    (r"^fpn", "backbone.fpn"),
    (r"head\.classifier\.", "head.conv_seg."),
]


def official(hf):
    out = {}
    for name, tensor in hf.items():
        if name.endswith("attention.attention.query.weight"):
            parts = [hf[name.replace("query", part)] for part in ("query", "key", "value")]
            name, tensor = name.replace("attention.attention.query", "attn.qkv"), torch.cat(parts)
        elif re.search(r"attention\.attention\.(key|value)\.weight$", name):
            continue
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        out[name] = tensor.contiguous()
    return out


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model = build(1e-12)
    randomise(model)
    model.save_pretrained(out)
    weights = out / "model.safetensors"
    from safetensors.torch import load_file

    hf = load_file(weights)
    weights.rename(out / "hf.safetensors")
    save_file(official(hf), out / "official.safetensors", metadata={"format": "pt"})

    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(21))
    io = {"input": pixels}
    exact = build(1e-6)
    exact.load_state_dict(model.state_dict())
    with torch.no_grad():
        for dtype, tail in ((torch.float32, ""), (torch.float64, "_f64")):
            model.to(dtype)
            exact.to(dtype)
            theirs = model(pixels.to(dtype))
            hidden = exact(pixels.to(dtype), output_hidden_states=True).hidden_states
            # BatchNorm counters are integers whatever the dtype
            io[f"transformers.logits{tail}"] = theirs.logits
            logits, auxiliary = features(exact, hidden, [i + 1 for i in TAPS])
            io[f"unilm.logits{tail}"] = logits
            io[f"unilm.auxiliary{tail}"] = auxiliary
            check, _ = features(exact, hidden, [i - 1 for i in TAPS])
            print(f"transformers' own taps, eps 1e-6 against 1e-12{tail}:", (check - theirs.logits).abs().max().item())
            if not tail:
                for k, state in enumerate(hidden):
                    io[f"hidden.{k}"] = state
    save_file({name: tensor.contiguous() for name, tensor in io.items()}, out / "io.safetensors")
    kept = json.loads((out / "config.json").read_text())
    kept.pop("transformers_version", None)
    (out / "config.json").write_text(json.dumps(kept, indent=2) + "\n")


main(Path(sys.argv[1]))
