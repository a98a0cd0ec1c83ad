"""Make fixtures/resize: what upstream's own code makes of positions and patch kernels at another size.

    python scripts/crosscheck/make_resize_goldens.py <goldens> fixtures

<goldens> are the complete outputs of upstream (unilm, transformers, timm; see fixtures/PROVENANCE.md), of which only
what the tests read is kept: one head of every bare table, four channels of every pos_embed, and instead of a bias
[heads, N, N] the table it was looked up in. `patch` is made here, by the timm that is installed: v1_cls loaded through
its `checkpoint_filter_fn` at other patch sizes.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file


def import_timm():
    """torchvision's own operators are not needed here, and a wheel for another torch lacks them."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        source = Path(torch.__file__).parent.parent / "torchvision" / "_meta_registrations.py"
        library = torch.library.Library("torchvision", "DEF")
        for name in {part.split('"')[0] for part in source.read_text().split('"torchvision::')[1:]}:
            library.define(f"{name}(Tensor a) -> Tensor")
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        import_timm.keep = library
    import timm

    return timm


def index(height, width):
    """unilm `Attention.__init__`, for the patches only."""
    y, x = np.divmod(np.arange(height * width), width)
    rows = y[:, None] - y[None, :] + height - 1
    return rows * (2 * width - 1) + (x[:, None] - x[None, :] + width - 1)


def table_of(bias, height, width):
    """The table a bias [heads, N+1, N+1] was looked up in."""
    heads = bias.shape[0]
    table = np.zeros(((2 * height - 1) * (2 * width - 1) + 3, heads), np.float32)
    where = index(height, width)
    for head in range(heads):
        table[where, head] = bias[head, 1:, 1:]
        assert np.array_equal(table[where, head], bias[head, 1:, 1:])
    table[-3], table[-2], table[-1] = bias[:, 0, 1], bias[:, 1, 0], bias[:, 0, 0]
    return table


def kept(source):
    io = lambda case: load_file(source / case / "io.safetensors")
    tables = {
        key: np.ascontiguousarray(value if value.ndim == 1 else value[:, :1])
        for key, value in io("rel_tables").items()
        # The float32 results are the float64 ones, rounded; one source serves two targets.
        if not (key.endswith(".unilm") and key != "4to4.unilm") and key != "14to20x12.source"
    }
    yield "tables", tables
    for case, window in (("up", (12, 12)), ("down", (5, 5)), ("nonsquare", (6, 10))):
        # Of the tables that of block 0; the logits depend on all of them.
        found = {
            key: value
            for key, value in io(f"resize_{case}").items()
            if not key.endswith(("features", "table.1", "table.2"))
        }
        found["hf.table.0"] = table_of(found.pop("hf.bias.0"), *window)
        yield case, found
    positions = io("pos_embed_resize")
    yield "pos_embed", {
        key: np.ascontiguousarray(value[..., :4]) if key.endswith("pos_embed") else value
        for key, value in positions.items()
    }
    expanded = {key: value for key, value in io("pt_expand_resize").items() if key != "features"}
    for file in ("new_head", "expanded_table"):
        expanded |= load_file(source / "pt_expand_resize" / f"{file}.safetensors")
    yield "pt_expand", expanded


def patches(weights):
    timm = import_timm()
    from timm.layers.patch_embed import resample_patch_embed
    from timm.models.beit import Beit, checkpoint_filter_fn

    generator = torch.Generator().manual_seed(3)
    out = {}
    for size, sides in ((16, (14, 17, 8, 24, 1)), (14, (16, 9))):
        kernel = torch.randn((2, 1, size, size), generator=generator)
        out[f"{size}.kernel"] = kernel.numpy()
        for side in sides:
            out[f"{size}to{side}.kernel"] = resample_patch_embed(kernel, [side, side]).numpy()
    for patch, image in ((6, (32, 32)), (3, (24, 40)), (8, (40, 40))):
        model = Beit(
            img_size=image, patch_size=patch, num_classes=10, embed_dim=32, depth=3, num_heads=4,
            qkv_bias=True, init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=True, global_pool="avg",
        ).eval()
        state = {key: torch.from_numpy(value) for key, value in weights.items()}
        filtered = checkpoint_filter_fn(state, model)
        model.load_state_dict(filtered, strict=True)
        pixels = torch.randn((1, 3, *image), generator=generator)
        with torch.inference_mode():
            logits = model(pixels)
        name = f"patch{patch}"
        out[f"{name}.input"] = pixels.numpy()
        out[f"{name}.logits"] = logits.numpy()
        out[f"{name}.table.0"] = filtered["blocks.0.attn.relative_position_bias_table"].numpy()
        out[f"{name}.kernel"] = filtered["patch_embed.proj.weight"].numpy()[:4]
    print(f"timm {timm.__version__}, torch {torch.__version__}")
    return out


def main():
    source, fixtures = Path(sys.argv[1]), Path(sys.argv[2])
    folder = fixtures / "resize"
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    weights = load_file(fixtures / "goldens" / "v1_cls" / "official.safetensors")
    for name, tensors in (*kept(source), ("patch", patches(weights))):
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / f"{name}.safetensors")
        print(name, (folder / f"{name}.safetensors").stat().st_size)


main()
