"""Do the real frameworks load what `convert-beit` writes, strictly, and compute the golden logits from it?

    python scripts/crosscheck/load_weights.py [--goldens fixtures/goldens] [--picture fixtures/demo/heart.jpg]

Needs torch, safetensors, timm, transformers and Pillow; Node and a built `dist/` for the converter. For every golden
with an official checkpoint it writes all targets and checks: `torch.load(weights_only=True)` and the safetensors
library give the golden's bits; timm and transformers load strictly and reproduce the golden logits; mmpretrain (which
needs mmcv) is held against the golden keys. Ends with exit code 1 if anything is off.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
# float32 against float32 on logits of size 1 to 7: the goldens' own README
TOLERANCE = 1e-5

failures = []
largest = {}


def check(passed, what):
    if not passed:
        failures.append(what)
        print(f"  FAILED {what}")


def gap(kind, ours, golden, what):
    worst = (ours.double() - golden.double()).abs().max().item()
    largest[kind] = max(largest.get(kind, 0.0), worst)
    check(worst <= TOLERANCE, f"{what}: logits differ by {worst:.1e}")


def convert(source, out, to, config):
    command = ["node", str(ROOT / "dist/cli/main.js"), "--src", str(source), "--out", str(out), "--to", to]
    done = subprocess.run([*command, "--config", str(config), "--json"], capture_output=True, text=True)
    answer = json.loads(done.stdout)
    return answer if answer["ok"] else answer["error"]["message"]


def hints(golden, folder):
    """What the shapes of a checkpoint cannot tell, with transformers' field names."""
    fields = {"image_size": golden["img"], "num_attention_heads": golden["heads"]}
    if golden.get("early_layers"):
        fields["early_layers"] = golden["early_layers"]
    path = folder / "hints.json"
    path.write_text(json.dumps(fields))
    return path


def same_bits(ours, golden, what):
    """Every golden tensor is there with its bits; what we have besides are index buffers."""
    for name, tensor in golden.items():
        mine = ours.get(name)
        equal = mine is not None and mine.dtype == tensor.dtype and mine.shape == tensor.shape
        check(equal and torch.equal(mine.view(torch.uint8), tensor.view(torch.uint8)), f"{what}: {name}")
    extra = [name for name in ours if name not in golden and not name.endswith("relative_position_index")]
    check(not extra, f"{what}: unexpected {extra[:3]}")


def check_files(case, source, folder, config, golden_dir):
    """Both containers of every layout that a golden file exists for."""
    for layout, key in (("official", "model"), ("mmpretrain", "state_dict"), ("timm", None), ("transformers", None)):
        file = {"transformers": "hf"}.get(layout, layout)
        golden_file = golden_dir / f"{file}.safetensors"
        if not golden_file.exists():
            continue
        golden = load_file(golden_file)
        for ending in ("pth", "safetensors"):
            out = folder / f"{layout}.{ending}"
            answer = convert(source, out, layout, config)
            if isinstance(answer, str):
                check(False, f"{case}: {layout}.{ending}: {answer}")
                continue
            if ending == "pth":
                loaded = torch.load(out, weights_only=True)
                mapped = torch.load(out, weights_only=True, mmap=True)
                ours = loaded if key is None else loaded[key]
                same_bits(mapped if key is None else mapped[key], golden, f"{case}: {layout}.pth by mmap")
                if layout == "mmpretrain":
                    check(loaded["meta"]["convert_beit_source"] == source.name, f"{case}: meta of {layout}.pth")
            else:
                ours = load_file(out)
                with safe_open(out, "pt") as opened:
                    check(opened.metadata()["format"] == "pt", f"{case}: metadata of {layout}.safetensors")
            same_bits(ours, golden, f"{case}: {layout}.{ending}")


def check_timm(case, source, folder, config, golden, io):
    import timm.models.beit

    answer = convert(source, folder / "for-timm.pth", "timm", config)
    if isinstance(answer, str):
        return check(False, f"{case}: timm: {answer}")
    model = timm.models.beit.Beit(
        img_size=tuple(golden["img"]),
        patch_size=golden["patch"],
        in_chans=golden["in_chans"],
        num_classes=golden["classes"],
        global_pool="avg" if golden["mean_pool"] else "token",
        embed_dim=golden["embed"],
        depth=golden["depth"],
        num_heads=golden["heads"],
        qkv_bias=golden["qkv_bias"],
        mlp_ratio=golden["mlp_ratio"],
        init_values=golden["init_values"] or None,
        use_abs_pos_emb=golden["abs_pos"],
        use_rel_pos_bias=golden["rel_pos"],
        use_shared_rel_pos_bias=golden["shared_rel_pos"],
    ).eval()
    model.load_state_dict(torch.load(folder / "for-timm.pth", weights_only=True), strict=True)
    with torch.no_grad():
        gap("timm", model(io["input"]), io["logits"], f"{case}: timm")


def check_create_model(source, folder, config, golden, io):
    """timm's own way from a file to a model, with its checkpoint filter."""
    import timm

    for ending in ("pth", "safetensors"):
        convert(source, folder / f"created.{ending}", "timm", config)
        model = timm.create_model(
            "beit_base_patch16_224",
            checkpoint_path=str(folder / f"created.{ending}"),
            img_size=golden["img"][0],
            patch_size=golden["patch"],
            num_classes=golden["classes"],
            embed_dim=golden["embed"],
            depth=golden["depth"],
            num_heads=golden["heads"],
            init_values=golden["init_values"],
        ).eval()
        with torch.no_grad():
            gap("timm.create_model", model(io["input"]), io["logits"], f"create_model from .{ending}")


def check_transformers(case, source, folder, config, golden, io):
    from transformers import BeitForImageClassification, BeitForMaskedImageModeling

    answer = convert(source, f"{folder}/hf/", "transformers", config)
    if isinstance(answer, str):
        square = golden["img"][0] == golden["img"][1]
        return check(not square and "not square" in answer, f"{case}: transformers: {answer}")
    pretraining = golden["kind"] != "cls"
    kind = BeitForMaskedImageModeling if pretraining else BeitForImageClassification
    for attention in ("eager", "sdpa"):
        model, info = kind.from_pretrained(
            folder / "hf", output_loading_info=True, attn_implementation=attention
        )
        odd = {key: value for key, value in info.items() if value}
        check(not odd, f"{case}: transformers was not strict: {odd}")
        with torch.no_grad():
            if pretraining:
                logits = model.eval()(io["input"], bool_masked_pos=io["mask"].bool()).logits
                gap("transformers (pre-training)", logits, io["logits_all"], f"{case}: transformers {attention}")
            else:
                logits = model.eval()(io["input"]).logits
                gap("transformers", logits, io["logits"], f"{case}: transformers {attention}")


def check_processor(source, folder, config, golden, picture):
    """preprocessor_config.json must give the official evaluation transform."""
    import numpy
    from PIL import Image
    from transformers import AutoImageProcessor

    size = golden["img"][0]
    short = int(size / (224 / 256)) if size < 384 else size
    image = Image.open(picture).convert("RGB")
    width, height = image.size
    resized = image.resize(
        (short, int(short * height / width)) if width <= height else (int(short * width / height), short),
        Image.BICUBIC,
    )
    left, top = (round((side - size) / 2.0) for side in resized.size)
    cropped = numpy.asarray(resized.crop((left, top, left + size, top + size)), dtype=numpy.float32)
    official = (torch.from_numpy(cropped).permute(2, 0, 1) / 255 - 0.5) / 0.5
    for backend in ("pil", "torchvision"):
        try:
            processor = AutoImageProcessor.from_pretrained(folder / "hf", backend=backend)
            ours = torch.as_tensor(processor(image, return_tensors="pt")["pixel_values"][0])
        except Exception as error:  # a backend that is not installed is no fault of the folder
            print(f"  image processor {backend}: not run ({type(error).__name__})")
            continue
        levels = (ours - official).abs().max().item() * 127.5
        print(f"  image processor {type(processor).__name__} ({backend}): {levels:.3f} of 255 levels off")
        check(ours.shape == official.shape and levels <= 1.01, f"image processor {backend}: {levels:.2f} levels")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--goldens", type=pathlib.Path, default=ROOT / "fixtures/goldens")
    parser.add_argument("--picture", type=pathlib.Path, default=ROOT / "fixtures/demo/heart.jpg")
    arguments = parser.parse_args()
    cases = sorted(path.parent for path in arguments.goldens.glob("*/official.safetensors"))
    for path in cases:
        golden = json.loads((path / "config.json").read_text())
        if "kind" not in golden:
            continue
        io = load_file(path / "io.safetensors")
        print(path.name)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            config = hints(golden, folder)
            source = path / "official.safetensors"
            check_files(path.name, source, folder, config, path)
            if golden["kind"] == "cls":
                check_timm(path.name, source, folder, config, golden, io)
            if golden["kind"] != "mim_cls":
                check_transformers(path.name, source, folder, config, golden, io)
            if path.name == "v1_cls":
                check_create_model(source, folder, config, golden, io)
                check_processor(source, folder, config, golden, arguments.picture)
    for kind, worst in largest.items():
        print(f"{kind}: largest difference of logits {worst:.1e}")
    print("all fine" if not failures else f"{len(failures)} failures")
    assert not math.isnan(sum(largest.values()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
