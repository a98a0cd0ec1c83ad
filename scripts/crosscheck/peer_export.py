"""Times torch.onnx.export of other people's BEiT, as a whole: import, build, export. Prints one line of JSON.

    python scripts/crosscheck/peer_export.py --arch base --out peer.onnx
    python scripts/crosscheck/peer_export.py --model transformers --out peer.onnx
    python scripts/crosscheck/peer_export.py --model official --unilm <clone of microsoft/unilm> --out peer.onnx

Weights are random (seed 0): what is measured does not depend on them.
"""

import argparse
import json
import pathlib
import resource
import sys
import time

start = time.perf_counter()

import torch  # noqa: E402


def official(arch: str, unilm: pathlib.Path | None) -> torch.nn.Module:
    if unilm is None:
        raise SystemExit("--model official needs --unilm: a clone of https://github.com/microsoft/unilm")
    sys.path.insert(0, str(unilm / "beit"))
    import modeling_finetune

    # As run_class_finetuning.py builds it for the published checkpoints.
    make = getattr(modeling_finetune, f"beit_{arch}_patch16_224")
    return make(num_classes=1000, use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.1)


def timm(arch: str, _: pathlib.Path | None) -> torch.nn.Module:
    import timm

    model = timm.create_model(f"beit_{arch}_patch16_224", pretrained=False)
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


def transformers(arch: str, _: pathlib.Path | None) -> torch.nn.Module:
    from transformers import BeitConfig, BeitForImageClassification

    width, depth, heads = {"base": (768, 12, 12), "large": (1024, 24, 16)}[arch]
    config = BeitConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=224,
        num_labels=1000,
        use_relative_position_bias=True,
        use_shared_relative_position_bias=False,
        layer_scale_init_value=0.1,
        attn_implementation="eager",
    )

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = BeitForImageClassification(config)

        def forward(self, pixel_values):
            return self.model(pixel_values).logits

    return Logits()


MODELS = {"official": official, "timm": timm, "transformers": transformers}

parser = argparse.ArgumentParser()
parser.add_argument("--arch", choices=["base", "large"], default="base")
parser.add_argument("--model", choices=MODELS, default="timm")
parser.add_argument("--unilm", type=pathlib.Path)
parser.add_argument("--out", required=True)
args = parser.parse_args()

torch.manual_seed(0)
model = MODELS[args.model](args.arch, args.unilm).eval()
with torch.no_grad():
    torch.onnx.export(
        model,
        (torch.randn(1, 3, 224, 224),),
        args.out,
        dynamo=False,
        opset_version=17,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}},
    )
print(
    json.dumps(
        {
            "seconds": time.perf_counter() - start,
            "peakMiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "versions": f"{args.model}, torch {torch.__version__}",
        }
    )
)
