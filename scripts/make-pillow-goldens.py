"""Writes fixtures/pillow: what Pillow and torchvision make of generated and of stored pictures.

Run:   python scripts/make-pillow-goldens.py
Needs: pillow, torch, torchvision, numpy (versions are recorded in the manifest). x86-64: Pillow's sums are integers, but
its filter coefficients are doubles, and other processors may fuse multiply and add.
"""

import base64
import hashlib
import io
import json
import platform
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image, ImageCms, features
from torchvision import transforms

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "pillow"
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
# Results up to this many bytes are stored whole, the others as a hash.
WHOLE = 600


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def source(kind: str, seed: int, width: int, height: int) -> np.ndarray:
    """A picture that tests can generate again: `noise` and `extremes` from a 32-bit LCG, `ramp` from the position."""
    count = width * height * 3
    if kind == "ramp":
        return ((np.arange(count) * seed) % 256).astype(np.uint8).reshape(height, width, 3)
    values = np.empty(count, np.uint8)
    state = seed
    for i in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        top = state >> 24
        values[i] = top if kind == "noise" else 255 * (top >> 7)
    return values.reshape(height, width, 3)


def described(kind: str, seed: int, width: int, height: int) -> tuple[dict, Image.Image]:
    pixels = source(kind, seed, width, height)
    row = {"kind": kind, "seed": seed, "width": width, "height": height, "sha256": sha256(pixels.tobytes())}
    return row, Image.fromarray(pixels)


def stored(data: bytes) -> dict:
    row = {"sha256": sha256(data)}
    if len(data) <= WHOLE:
        row["base64"] = base64.b64encode(data).decode()
    return row


RESIZES = [
    # name, (kind, seed, width, height), (new height, new width)
    ("the same size", ("noise", 1, 37, 23), (23, 37)),
    ("down by an odd ratio", ("noise", 2, 97, 61), (13, 17)),
    ("down by exactly two", ("noise", 3, 64, 48), (24, 32)),
    ("up by an odd ratio", ("noise", 4, 19, 13), (31, 47)),
    ("up by exactly three", ("noise", 5, 8, 5), (15, 24)),
    ("wider and lower", ("noise", 6, 40, 40), (11, 90)),
    ("narrower and higher", ("noise", 7, 40, 40), (90, 11)),
    ("width only", ("noise", 8, 50, 21), (21, 33)),
    ("height only", ("noise", 9, 21, 50), (33, 21)),
    ("one column down", ("noise", 10, 1, 50), (7, 1)),
    ("one row up", ("noise", 11, 9, 1), (1, 31)),
    ("one pixel to many", ("noise", 12, 1, 1), (9, 7)),
    ("many to one pixel", ("noise", 13, 63, 41), (1, 1)),
    ("to one column", ("noise", 14, 30, 20), (20, 1)),
    ("two pixels up", ("noise", 15, 2, 2), (13, 13)),
    ("overshoot clipped, up", ("extremes", 16, 24, 24), (53, 59)),
    ("overshoot clipped, down", ("extremes", 17, 80, 60), (41, 57)),
    ("by one pixel less", ("extremes", 18, 33, 33), (32, 32)),
    ("by one pixel more", ("noise", 19, 32, 32), (33, 33)),
    ("smooth, down", ("ramp", 3, 256, 100), (41, 73)),
    ("photograph to 256", ("noise", 20, 500, 375), (256, 341)),
    ("far down", ("extremes", 21, 1031, 769), (16, 16)),
]


def resizes() -> list[dict]:
    rows = []
    for name, made, (height, width) in RESIZES:
        row, picture = described(*made)
        for filter_name, resample in FILTERS.items():
            result = picture.resize((width, height), resample)
            rows.append(
                {"name": name, "filter": filter_name, "source": row, "size": [height, width], **stored(result.tobytes())}
            )
    return rows


V1 = ([0.5] * 3, [0.5] * 3)
V2 = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
PIPELINES = [
    # name, (kind, seed, width, height), resize, crop, filter, (mean, std)
    ("v1 at 224, landscape", ("noise", 30, 320, 213), 256, [224, 224], "bicubic", V1),
    ("v2 at 224, portrait", ("noise", 31, 211, 300), 256, [224, 224], "bicubic", V2),
    ("v1 at 64: a margin of 9, halves to even 4", ("noise", 32, 100, 100), 73, [64, 64], "bicubic", V1),
    ("margins of 11 and 13: 5.5 and 6.5 both become 6", ("noise", 33, 77, 75), [75, 77], [64, 64], "bilinear", V2),
    ("margins of 1 and 3: 0.5 becomes 0, 1.5 becomes 2", ("noise", 34, 67, 65), [65, 67], [64, 64], "bicubic", V1),
    ("v1 at 384: crop_pct 1", ("ramp", 5, 400, 300), 384, [384, 384], "bicubic", V1),
    ("squashed, as Hugging Face does", ("noise", 35, 90, 70), [32, 32], [32, 32], "bilinear", V1),
    ("not square", ("noise", 36, 90, 70), [32, 40], [32, 40], "bicubic", V1),
    ("long side cut, not rounded: 73 * 29 / 20 = 105.85", ("noise", 37, 29, 20), 73, [64, 64], "bicubic", V2),
    ("crop larger than the picture: black border", ("noise", 38, 30, 20), 21, [28, 36], "bicubic", V2),
    ("one channel", ("noise", 39, 100, 80), 36, [32, 32], "bicubic", ([0.5], [0.5])),
    ("one pixel", ("noise", 40, 1, 1), 73, [64, 64], "bicubic", V2),
]


def pipelines() -> list[dict]:
    rows = []
    for name, made, resize, crop, filter_name, (mean, std) in PIPELINES:
        row, picture = described(*made)
        if len(mean) == 1:
            picture = picture.convert("L")
        mode = transforms.InterpolationMode(filter_name)
        pixels = transforms.Compose(
            [
                transforms.Resize(resize, interpolation=mode),
                transforms.CenterCrop(crop),
                transforms.ToTensor(),
                transforms.Normalize(torch.tensor(mean), torch.tensor(std)),
            ]
        )(picture)
        assert pixels.dtype == torch.float32 and list(pixels.shape) == [len(mean), *crop]
        values = pixels.numpy().astype("<f4")
        rows.append(
            {
                "name": name,
                "source": row,
                "preprocessing": {"resize": resize, "crop": crop, "interpolation": filter_name, "mean": mean, "std": std},
                "sha256": sha256(values.tobytes()),
                # for a person who looks for the reason of a different hash
                "first": [float(v) for v in values.ravel()[:4]],
            }
        )
    return rows


def png16(pixels: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG; Pillow cannot write one in colour."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + pixels[y].astype(">u2").tobytes() for y in range(height))

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def swapped_profile() -> bytes:
    """sRGB with red and green exchanged: whoever applies it shows different colours."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")


def smooth(width: int = 23, height: int = 17) -> Image.Image:
    """A picture like photographs: soft, with an edge; JPEG and WebP keep it small."""
    y, x = np.mgrid[0:height, 0:width]
    red = 40 + 8 * x
    green = 200 - 9 * y
    blue = np.where((x - 9) ** 2 + (y - 8) ** 2 < 30, 230, 60)
    return Image.fromarray(np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def decodes() -> list[dict]:
    rgb = smooth()
    grey = rgb.convert("L")
    alpha = Image.fromarray((np.arange(17 * 23).reshape(17, 23) % 256).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey_alpha = grey.copy()
    grey_alpha.putalpha(alpha)
    palette = rgb.quantize(16)
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = (np.asarray(rgb).astype(np.uint16) << 8) | 0xC3
    deep_grey = (np.asarray(grey).astype(np.uint16) << 8) | 0xC3

    files = [
        ("rgb.png", encoded(rgb, "PNG"), "RGB"),
        ("rgba.png", encoded(rgba, "PNG"), "alpha is dropped, not blended"),
        ("grey.png", encoded(grey, "PNG"), "grey"),
        ("grey-alpha.png", encoded(grey_alpha, "PNG"), "grey with alpha"),
        ("palette.png", encoded(palette, "PNG"), "palette"),
        ("palette-transparent.png", encoded(palette, "PNG", transparency=3), "palette with a transparent colour"),
        ("one-bit.png", encoded(grey.convert("1"), "PNG"), "1 bit"),
        ("rgb16.png", png16(deep, 2), "16-bit RGB: the upper 8 bits"),
        ("grey16.png", png16(deep_grey, 0), "16-bit grey: the upper 8 bits (Pillow cuts off at 255; not followed)"),
        ("icc.png", encoded(rgb, "PNG", icc_profile=swapped_profile()), "a colour profile is not applied"),
        ("444.jpg", encoded(rgb, "JPEG", quality=90, subsampling=0), "JPEG 4:4:4"),
        ("422.jpg", encoded(rgb, "JPEG", quality=90, subsampling=1), "JPEG 4:2:2"),
        ("420.jpg", encoded(rgb, "JPEG", quality=75, subsampling=2), "JPEG 4:2:0, odd sides"),
        ("progressive.jpg", encoded(rgb, "JPEG", quality=75, progressive=True), "progressive JPEG"),
        ("grey.jpg", encoded(grey, "JPEG", quality=80), "grey JPEG"),
        ("cmyk.jpg", encoded(rgb.convert("CMYK"), "JPEG", quality=90), "CMYK JPEG (Adobe, inverted)"),
        ("turned.jpg", encoded(rgb, "JPEG", quality=90, exif=turned), "the EXIF orientation is not applied"),
        ("lossless.webp", encoded(rgb, "WEBP", lossless=True), "lossless WebP"),
        ("palette.gif", encoded(palette, "GIF"), "GIF"),
        (
            "animated.gif",
            encoded(palette, "GIF", save_all=True, append_images=[rgb.rotate(180).quantize(16)]),
            "animation: the first picture",
        ),
        ("rgb.tif", encoded(rgb, "TIFF", compression="tiff_lzw"), "TIFF"),
        ("cmyk.tif", encoded(rgb.convert("CMYK"), "TIFF", compression="tiff_lzw"), "CMYK TIFF"),
    ]
    rows = []
    for name, data, case in files:
        (FOLDER / name).write_bytes(data)
        picture = Image.open(io.BytesIO(data))
        expected = picture.convert("RGB")
        if name == "grey16.png":
            expected = grey.convert("RGB")
        rows.append(
            {
                "file": name,
                "name": case,
                "mode": picture.mode,
                "width": expected.width,
                "height": expected.height,
                "sha256": sha256(expected.tobytes()),
                "first": list(expected.tobytes()[:6]),
            }
        )
    return rows


# Every kind of file, smaller and larger, by every filter: what a model sees of it.
FILE_RESIZES = [
    ("rgba.png", (9, 31)),
    ("grey.png", (40, 11)),
    ("grey-alpha.png", (1, 23)),
    ("palette-transparent.png", (29, 1)),
    ("grey.jpg", (33, 47)),
    ("cmyk.jpg", (13, 17)),
    ("turned.jpg", (16, 16)),
    ("420.jpg", (31, 9)),
]


def file_resizes() -> list[dict]:
    rows = []
    for name, (height, width) in FILE_RESIZES:
        picture = Image.open(FOLDER / name).convert("RGB")
        for filter_name, resample in FILTERS.items():
            result = picture.resize((width, height), resample)
            row = {"file": name, "filter": filter_name, "size": [height, width], "sha256": sha256(result.tobytes())}
            rows.append(row)
    return rows


def hugging_face() -> list[dict]:
    """BEiT's own image processor of transformers, the one that works with Pillow."""
    from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil

    processor = BeitImageProcessorPil(
        size={"height": 32, "width": 32},
        resample=Image.Resampling.BILINEAR,
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    rows = []
    for made in [("noise", 50, 90, 70), ("extremes", 51, 20, 45)]:
        row, picture = described(*made)
        values = processor(picture, return_tensors="np")["pixel_values"][0]
        assert values.shape == (3, 32, 32) and values.dtype == np.float32
        rows.append({"source": row, "base64": base64.b64encode(values.astype("<f4").tobytes()).decode()})
    return rows


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    manifest = {
        "made_by": "scripts/make-pillow-goldens.py",
        "versions": {
            "pillow": PIL.__version__,
            "libjpeg-turbo": features.version("libjpeg_turbo"),
            "torchvision": torchvision.__version__.split("+")[0],
            "torch": torch.__version__.split("+")[0],
            "machine": platform.machine(),
        },
        "resize": resizes(),
        "preprocess": pipelines(),
        "decode": decodes(),
        "file_resize": file_resizes(),
        "transformers": hugging_face(),
    }
    lists = ["resize", "preprocess", "decode", "file_resize", "transformers"]
    lines = [f"  {json.dumps(key)}: {json.dumps(manifest[key])}" for key in manifest if key not in lists]
    for key in lists:
        rows = ",\n".join(f"    {json.dumps(row)}" for row in manifest[key])
        lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
    (FOLDER / "manifest.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print({key: len(manifest[key]) for key in lists})


if __name__ == "__main__":
    main()
