"""What upstream's files of one model hold in every layout: name, dtype, shape and a digest of the bytes of each tensor.

    python scripts/crosscheck/layout_manifest.py <goldens folder> fixtures/layouts
    python scripts/crosscheck/make_segmentation_golden.py <folder>/segmentation
    python scripts/crosscheck/layout_manifest.py <folder> fixtures/layouts

The files themselves are four times the same numbers; the digests prove as much and take a fiftieth of the room.
"""

import hashlib
import json
import sys
from pathlib import Path

LAYOUTS = {
    "official": "official",
    "timm": "timm",
    "transformers": "hf",
    "mmpretrain": "mmpretrain",
    "mmpretrain, seed": "mmcls_seed",
}
CASES = """v1_cls v1_abs_pos v1_cls_pool v1_shared_rel mim_v1 mim_v1_abs mim_v2 mim_v2_cls_pt mim_v2_cls_pt_sep
mm_bias_true mm_corner_pad mm_drop_cls_token mm_dynamic_pos_embed mm_no_cls_token mm_out_types
mmcls_seed_outputs segmentation""".split()


def manifest(path: Path) -> dict[str, list]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    out = {}
    for name in sorted(header):
        info = header[name]
        begin, end = (start + at for at in info["data_offsets"])
        digest = hashlib.sha256(data[begin:end]).hexdigest()
        out[name] = [info["dtype"], info["shape"], digest[:16]]
    return out


def main(goldens: Path, out: Path) -> None:
    for case in filter(lambda case: (goldens / case).exists(), CASES):
        files = {layout: goldens / case / f"{file}.safetensors" for layout, file in LAYOUTS.items()}
        found = {layout: manifest(path) for layout, path in files.items() if path.exists()}
        blocks = []
        for layout, tensors in found.items():
            rows = ",\n".join(f"{json.dumps(name)}:{json.dumps(row, separators=(',', ':'))}" for name, row in tensors.items())
            blocks.append(f"{json.dumps(layout)}:{{\n{rows}\n}}")
        config = json.dumps(json.loads((goldens / case / "config.json").read_text()), separators=(",", ":"))
        (out / f"{case}.json").write_text(f'{{"config":{config},\n"layouts":{{{",".join(blocks)}}}}}\n')


main(Path(sys.argv[1]), Path(sys.argv[2]))
