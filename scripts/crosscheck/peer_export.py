"""Times torch.onnx.export of timm's BEiT, as a whole: import, build, export. Prints one line of JSON.

    python scripts/crosscheck/peer_export.py --arch base --out peer.onnx
"""

import argparse
import json
import resource
import time

start = time.perf_counter()

import timm  # noqa: E402
import torch  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--arch", choices=["base", "large"], default="base")
parser.add_argument("--out", required=True)
args = parser.parse_args()

torch.manual_seed(0)
model = timm.create_model(f"beit_{args.arch}_patch16_224", pretrained=False).eval()
for block in model.blocks:
    block.attn.fused_attn = False
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
            "versions": f"torch {torch.__version__}, timm {timm.__version__}",
        }
    )
)
