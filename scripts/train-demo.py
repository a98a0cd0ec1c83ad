"""Trains the embedded demo model and writes fixtures/demo: checkpoint, config.json, sample pictures, expected.json.

Run:   python scripts/train-demo.py            trains (a few minutes on two cores), then writes everything
       python scripts/train-demo.py --expected  all but the checkpoint, which is read
Needs: torch, torchvision, timm, pillow, numpy, safetensors. Seeded; other versions or processors give slightly other weights.

The network is timm's `Beit` (the official architecture and names): 64x64 pictures, patches of 8, 8 classes of drawn shapes.
Every picture is drawn at about the size of a thumbnail and goes through the official evaluation transform: bicubic to
int(64 / (224/256)) = 73 pixels, centre crop of 64, mean and standard deviation 0.5 (BEiT v1).
"""

import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import PIL
import timm
import torch
import torchvision
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from safetensors.torch import load_file, save_file
from timm.models.beit import Beit
from torchvision import transforms

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "demo"
CHECKPOINT = FOLDER / "beit_demo_patch8_64.safetensors"
LABELS = ["circle", "crescent", "cross", "heart", "ring", "square", "star", "triangle"]
SIZE, PATCH, WIDTH, DEPTH, HEADS = 64, 8, 64, 3, 4
TRAIN, WATCHED, HELD_OUT, EPOCHS, BATCH = 6000, 1000, 2000, 12, 64

official = transforms.Compose(
    [
        transforms.Resize(int(SIZE / (224 / 256)), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(SIZE),
        transforms.ToTensor(),
        transforms.Normalize(torch.tensor([0.5] * 3), torch.tensor([0.5] * 3)),
    ]
)


def network() -> Beit:
    """The untrained network; weights are started wider than timm does, which is meant for larger models."""
    model = Beit(
        img_size=SIZE,
        patch_size=PATCH,
        num_classes=len(LABELS),
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        init_values=0.5,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        global_pool="avg",
        head_init_scale=1.0,
    )
    side = SIZE // PATCH
    apart = torch.arange(-side + 1, side, dtype=torch.float32)
    for depth, block in enumerate(model.blocks):
        for linear in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            torch.nn.init.xavier_uniform_(linear.weight)
        # Each head looks at one side at first, further away in each block, as a convolution would: a start that finds
        # shapes long before one from zero does. Rows: query's place minus key's; the class token's three stay zero.
        table = torch.zeros_like(block.attn.relative_position_bias_table)
        for head in range(HEADS):
            angle = 2 * math.pi * (head + 0.5 * (depth % 2)) / HEADS
            y, x = (1 + depth) * math.sin(angle), (1 + depth) * math.cos(angle)
            near = (apart[:, None] - y) ** 2 + (apart[None, :] - x) ** 2
            table[:-3, head] = (-0.5 * near).clamp(min=-8).flatten()
        block.attn.relative_position_bias_table.data.copy_(table)
    torch.nn.init.xavier_uniform_(model.patch_embed.proj.weight.data.view(WIDTH, -1))
    return model


# ---- pictures ----------------------------------------------------------------------------------------------------


def outline(label: str) -> np.ndarray:
    """The shape's corners in units of its radius, [points, 2], y downwards."""
    turn = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    if label in ("circle", "ring", "crescent"):
        return np.stack([np.cos(turn), np.sin(turn)], -1)
    if label == "square":
        return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.84
    if label == "triangle":
        angle = np.radians([-90, 30, 150])
        return np.stack([np.cos(angle), np.sin(angle) + 0.12], -1) * 1.08
    if label == "star":
        angle = np.radians(np.arange(10) * 36 - 90)
        radius = np.where(np.arange(10) % 2 == 0, 1.12, 0.48)
        return np.stack([np.cos(angle), np.sin(angle)], -1) * radius[:, None]
    if label == "cross":
        a, b = 1.0, 0.34
        return np.array(
            [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b)]
        )
    assert label == "heart"
    x = 16 * np.sin(turn) ** 3
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
    return np.stack([x, y - 1.5], -1) / 15.5


def mask_of(label: str, size: tuple[int, int], centre: np.ndarray, radius: float, tilt: float) -> Image.Image:
    """White where the shape is; drawn three times too large for soft edges."""
    fine = 3
    spin = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    mask = Image.new("L", (size[0] * fine, size[1] * fine), 0)
    draw = ImageDraw.Draw(mask)

    def fill(points: np.ndarray, value: int) -> None:
        draw.polygon([tuple(p) for p in (points @ spin * radius + centre) * fine], fill=value)

    fill(outline(label), 255)
    if label == "ring":
        fill(outline("circle") * 0.56, 0)
    if label == "crescent":
        fill(outline("circle") * 0.86 + np.array([0.48, 0.0]), 0)
    return mask.resize(size, Image.Resampling.BOX)


def ramp(size: tuple[int, int], angle: float, first: np.ndarray, second: np.ndarray) -> Image.Image:
    """A straight run from one colour to another."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    along = x * math.cos(angle) + y * math.sin(angle)
    along = (along - along.min()) / max(np.ptp(along), 1e-9)
    pixels = first + (second - first) * along[..., None]
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def background(rng: np.random.Generator, size: tuple[int, int], colour: np.ndarray, pattern: str) -> Image.Image:
    other = (colour + rng.normal(0, 28, 3)).clip(0, 255)
    picture = ramp(size, rng.uniform(0, 2 * np.pi), colour, other)
    draw = ImageDraw.Draw(picture)
    faint = tuple(int(v) for v in (colour + rng.choice([-1, 1]) * rng.uniform(12, 30)).clip(0, 255))
    step = max(6, int(min(size) * rng.uniform(0.07, 0.16)))
    if pattern == "stripes":
        slope = int(rng.uniform(-1, 1) * size[1])
        for x in range(-size[1], size[0] + size[1], step):
            draw.line([(x, 0), (x + slope, size[1])], fill=faint, width=max(2, step // 3))
    if pattern == "dots":
        for y in range(0, size[1] + step, step):
            for x in range(0, size[0] + step, step):
                draw.ellipse([x - step // 6, y - step // 6, x + step // 6, y + step // 6], fill=faint)
    if pattern == "grain":
        noise = rng.normal(0, 9, (size[1], size[0], 3))
        picture = Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
    return picture


def paint(
    label: str,
    rng: np.random.Generator,
    size: tuple[int, int],
    front: np.ndarray,
    back: np.ndarray,
    pattern: str,
    place: tuple[float, float, float, float],
) -> Image.Image:
    """`place`: centre x and y as parts of the sides, radius as a part of the short side, tilt in degrees."""
    short = min(size)
    centre = np.array([place[0] * size[0], place[1] * size[1]])
    mask = mask_of(label, size, centre, place[2] * short, math.radians(place[3]))
    picture = background(rng, size, back, pattern)
    shadow = mask.filter(ImageFilter.GaussianBlur(short * 0.02))
    shadow = ImageChops.offset(shadow, int(short * 0.015), int(short * 0.025)).point(lambda v: int(v * 0.35))
    picture.paste((0, 0, 0), mask=shadow)
    light = ramp(size, math.radians(60), (front + 22).clip(0, 255), (front - 22).clip(0, 255))
    picture.paste(light, mask=mask)
    return picture


def colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A colour for the shape and a clearly darker one for what is behind it."""
    while True:
        front, back = rng.uniform(30, 255, 3), rng.uniform(0, 200, 3)
        if (front - back) @ [0.299, 0.587, 0.114] > 60:
            return front, back


def random_picture(label: str, rng: np.random.Generator) -> Image.Image:
    short = int(rng.integers(80, 150))
    size = (short, int(short * rng.uniform(1, 1.3)))
    if rng.random() < 0.5:
        size = size[::-1]
    front, back = colours(rng)
    tilt = rng.uniform(-30, 30)
    place = (0.5 + rng.uniform(-0.06, 0.06), 0.5 + rng.uniform(-0.06, 0.06), rng.uniform(0.24, 0.36), tilt)
    pattern = str(rng.choice(["plain", "stripes", "dots", "grain"]))
    return paint(label, rng, size, front, back, pattern, place)


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    targets = [i % len(LABELS) for i in range(count)]
    inputs = torch.empty(count, 3, SIZE, SIZE)
    for i, target in enumerate(targets):
        inputs[i] = official(random_picture(LABELS[target], rng))
    return inputs, torch.tensor(targets)


# ---- training ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def accuracy(model: Beit, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, torch.Tensor]:
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in inputs.split(500)])
    confusion = torch.zeros(len(LABELS), len(LABELS), dtype=torch.long)
    for target, answer in zip(targets.tolist(), found.tolist()):
        confusion[target, answer] += 1
    return (found == targets).float().mean().item(), confusion


def train() -> None:
    started = time.time()
    inputs, targets = pictures(TRAIN, seed=1)
    watch_inputs, watch_targets = pictures(WATCHED, seed=2)
    print(f"{TRAIN} + {WATCHED} pictures drawn in {time.time() - started:.0f} s", flush=True)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = network()
    assert all(m.eps == 1e-6 for m in model.modules() if isinstance(m, torch.nn.LayerNorm))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=2e-3
    )
    steps = EPOCHS * (TRAIN // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.15)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(TRAIN)
        total = 0.0
        for part in order.split(BATCH)[: TRAIN // BATCH]:
            batch = inputs[part]
            # Mirrored pictures keep their class; a colour channel turned round gives new colours.
            if torch.rand(()) < 0.5:
                batch = batch.flip(3)
            batch = batch[:, torch.randperm(3)]
            loss = loss_of(model(batch), targets[part])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        watched, _ = accuracy(model, watch_inputs, watch_targets)
        mean_loss = total / (TRAIN // BATCH)
        print(f"epoch {epoch + 1}: loss {mean_loss:.4f}, watched {watched:.4f}, {time.time() - started:.0f} s", flush=True)

    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    # Published files hold the index buffers; this timm computes them and does not store them.
    for i, block in enumerate(model.blocks):
        index = block.attn.relative_position_index.to(torch.int64).contiguous()
        state[f"blocks.{i}.attn.relative_position_index"] = index.clone()
    save_file(state, CHECKPOINT, metadata={"format": "pt"})
    CHECKPOINT.chmod(0o644)


def write_config() -> None:
    config = {
        "architectures": ["BeitForImageClassification"],
        "model_type": "beit",
        "image_size": SIZE,
        "patch_size": PATCH,
        "num_channels": 3,
        "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDTH * 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "layer_scale_init_value": 0.5,
        "use_mask_token": False,
        "use_absolute_position_embeddings": False,
        "use_relative_position_bias": True,
        "use_shared_relative_position_bias": False,
        "use_mean_pooling": True,
        "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "label2id": {label: i for i, label in enumerate(LABELS)},
    }
    (FOLDER / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


# ---- samples -----------------------------------------------------------------------------------------------------

SAMPLES = [
    # file, shape, (width, height), shape's colour, background's colour, pattern, place
    ("star.png", "star", (320, 256), (246, 196, 46), (38, 52, 98), "plain", (0.5, 0.51, 0.33, 12.0)),
    ("heart.jpg", "heart", (256, 300), (240, 84, 108), (72, 34, 66), "dots", (0.5, 0.49, 0.32, -9.0)),
    ("ring.png", "ring", (300, 256), (72, 214, 190), (34, 58, 66), "stripes", (0.5, 0.5, 0.33, 0.0)),
]


def write_samples() -> None:
    for i, (file, label, size, front, back, pattern, place) in enumerate(SAMPLES):
        rng = np.random.default_rng(100 + i)
        picture = paint(label, rng, size, np.array(front, float), np.array(back, float), pattern, place)
        if file.endswith(".jpg"):
            picture.save(FOLDER / file, quality=88, subsampling=2)
        else:
            picture.save(FOLDER / file, optimize=True)


@torch.no_grad()
def write_expected() -> None:
    """PyTorch's answers, read from the files again: the truth the converted model is compared with."""
    state = load_file(CHECKPOINT)
    weights = {name: tensor for name, tensor in state.items() if not name.endswith("relative_position_index")}
    single, double = network().eval(), network().double().eval()
    single.load_state_dict(weights, strict=True)
    double.load_state_dict({name: tensor.double() for name, tensor in weights.items()}, strict=True)
    for i, block in enumerate(single.blocks):
        assert torch.equal(block.attn.relative_position_index, state[f"blocks.{i}.attn.relative_position_index"])

    # Drawn after the recipe was settled and the weights were saved: nothing was chosen by it.
    held, confusion = accuracy(single, *pictures(HELD_OUT, seed=3))
    print(f"{confusion}\nheld out: {held:.4f}")
    assert held >= 0.95
    rows = []
    for file, label, *_ in SAMPLES:
        pixels = official(Image.open(FOLDER / file).convert("RGB"))
        logits = single(pixels[None])[0]
        logits64 = double(pixels[None].double())[0]
        answer = LABELS[int(logits64.argmax())]
        assert answer == label, (file, answer)
        share = torch.softmax(logits64, 0).max().item()
        print(f"{file}: {answer} {share:.3f}, float32 off by {(logits.double() - logits64).abs().max():.2e}")
        rows.append(
            {
                "file": file,
                "top1": answer,
                "probability": share,
                "pixels_sha256": hashlib.sha256(pixels.numpy().astype("<f4").tobytes()).hexdigest(),
                "logits_f32": logits.tolist(),
                "logits_f64": logits64.tolist(),
            }
        )
    expected = {
        "made_by": "scripts/train-demo.py",
        "versions": {
            "torch": torch.__version__.split("+")[0],
            "torchvision": torchvision.__version__.split("+")[0],
            "timm": timm.__version__,
            "pillow": PIL.__version__,
        },
        "checkpoint_sha256": hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest(),
        "held_out_accuracy": round(held, 4),
        "held_out_pictures": HELD_OUT,
        "labels": LABELS,
        "samples": rows,
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model and write fixtures/demo.")
    parser.add_argument("--expected", action="store_true", help="keep the checkpoint that is there")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not options.expected:
        train()
    write_config()
    write_samples()
    write_expected()
    print(f"{CHECKPOINT.name}: {CHECKPOINT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
