"""Does Python's transformers load the folders that `--format hub` writes, and compute the same from them?

    python scripts/crosscheck/load_folder.py [--goldens fixtures/goldens] [--picture fixtures/demo/heart.jpg]

Needs torch, transformers, safetensors, onnx and Pillow (onnxruntime is used where it is installed); Node and a built
`dist/` for the converter. For every golden classifier: a folder with all precisions and the weights is written;
`AutoConfig`, `AutoImageProcessor` and `AutoModelForImageClassification` load it without a missing or unexpected key;
its logits are the golden's; `onnx.checker` takes every ONNX file; and the processor gives the pixels that the folder's
own preprocessing gives. Ends with exit code 1 if anything is off.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
from PIL import Image
from safetensors.torch import load_file

try:
    import torchvision  # noqa: F401
except Exception:  # one that does not fit this torch would take transformers down with it
    sys.modules["torchvision"] = None
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

ROOT = pathlib.Path(__file__).resolve().parents[2]
DTYPES = "fp32,fp16,q8,int8,uint8,q4,q4f16"
# float32 against float32 on logits of size 1 to 7: the goldens' own README
TOLERANCE = 1e-5

failures = []


def check(passed, what):
    if not passed:
        failures.append(what)
        print(f"  FAILED {what}")


def write_folder(source, golden, out, folder):
    hints = folder / "hints.json"
    hints.write_text(json.dumps({"image_size": golden["img"], "num_attention_heads": golden["heads"]}))
    command = ["node", str(ROOT / "dist/cli/main.js"), "--src", str(source), "--out", f"{out}/"]
    options = ["--config", str(hints), "--dtype", DTYPES, "--with-weights", "--accept-quality", "--json"]
    done = subprocess.run(
        [*command, *options, "--beit-version", str(golden["version"])], capture_output=True, text=True
    )
    answer = json.loads(done.stdout)
    return None if answer["ok"] else answer["error"]["message"]


def pixels_of(picture, processor_config, half):
    """The folder's preprocessing in plain Pillow, as torchvision does it."""
    size, crop = processor_config["size"], processor_config["crop_size"]
    image = Image.open(picture).convert("RGB")
    if "shortest_edge" in size:
        short, (width, height) = size["shortest_edge"], image.size
        wide, high = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    else:
        wide, high = size["width"], size["height"]
    image = image.resize((wide, high), processor_config["resample"])
    left, top = half(wide - crop["width"]), half(high - crop["height"])
    image = image.crop((left, top, left + crop["width"], top + crop["height"]))
    values = np.asarray(image, np.float64) / 255
    mean, std = processor_config["image_mean"], processor_config["image_std"]
    return ((values - mean) / std).transpose(2, 0, 1)


def check_folder(name, out, golden, case, picture):
    AutoConfig.from_pretrained(out)
    model, info = AutoModelForImageClassification.from_pretrained(out, output_loading_info=True)
    keys = {kind: sorted(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    check(not any(keys.values()), f"{name}: {keys}")
    io = load_file(case / "io.safetensors")
    with torch.no_grad():
        logits = model.eval()(pixel_values=io["input"].float()).logits
    gap = (logits.double() - io["logits"].double()).abs().max().item()
    check(gap <= TOLERANCE, f"{name}: logits differ by {gap:.1e}")
    if golden["in_chans"] == 3:
        processor = AutoImageProcessor.from_pretrained(out, backend="pil")
        theirs = processor(Image.open(picture).convert("RGB"), return_tensors="np")["pixel_values"][0]
        config = json.loads((out / "preprocessor_config.json").read_text())
        # Of an odd margin torchvision rounds the half to even, transformers down: a pixel to the side, for some sizes.
        gaps = [np.abs(theirs - pixels_of(picture, config, half)).max() for half in (lambda n: round(n / 2), lambda n: n // 2)]
        check(min(gaps) < 1e-5, f"{name}: pixels differ by {min(gaps):.1e}")
    for path in sorted((out / "onnx").glob("*.onnx")):
        onnx.checker.check_model(str(path), full_check=True)
        if onnxruntime:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            ran = session.run(None, {"pixel_values": io["input"].float().numpy()})[0]
            check(np.isfinite(ran).all(), f"{name}: {path.name} gives {ran}")
    return gap


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--goldens", type=pathlib.Path, default=ROOT / "fixtures/goldens")
    parser.add_argument("--picture", type=pathlib.Path, default=ROOT / "fixtures/demo/heart.jpg")
    args = parser.parse_args()
    count = 0
    for case in sorted(args.goldens.glob("v[12]_*")):
        golden = json.loads((case / "config.json").read_text())
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            out = folder / case.name
            refused = write_folder(case / "official.safetensors", golden, out, folder)
            if refused:
                # What transformers has no place for is refused, never written wrongly.
                print(f"{case.name}: refused: {refused}")
                continue
            gap = check_folder(case.name, out, golden, case, args.picture)
            count += 1
            print(f"{case.name}: ok, logits differ by {gap:.1e}, {len(list((out / 'onnx').glob('*.onnx')))} ONNX files")
    print(f"{count} folders, {len(failures)} failures" + ("" if onnxruntime else "; onnxruntime is not installed"))
    sys.exit(1 if failures or count == 0 else 0)


main()
