"""Writes fixtures/foreign/: ONNX files that torch.onnx.export makes of timm's and transformers' BEiT, from goldens' weights.

    python scripts/crosscheck/foreign-fixtures.py <folder of goldens> <output folder>

The goldens need timm.safetensors and hf.safetensors (the shared golden data has both). Never needed by `npm test`.
"""

import gzip
import json
import pathlib
import sys

import numpy
import onnx
import safetensors.torch
import torch

# torchvision of another build than torch (a CUDA wheel beside a CPU one) lacks its operators; timm only imports it.
if not hasattr(torch.ops.torchvision, "nms"):
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import transformers  # noqa: E402

goldens, out = map(pathlib.Path, sys.argv[1:3])
out.mkdir(parents=True, exist_ok=True)


class Logits(torch.nn.Module):
    """transformers' models return an object; an ONNX graph returns tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values).logits


def timm_model(case, config):
    model = timm.models.beit.Beit(
        img_size=tuple(config["img"]),
        patch_size=config["patch"],
        in_chans=config["in_chans"],
        num_classes=config["classes"],
        embed_dim=config["embed"],
        depth=config["depth"],
        num_heads=config["heads"],
        qkv_bias=config["qkv_bias"],
        mlp_ratio=config["mlp_ratio"],
        init_values=config["init_values"],
        use_abs_pos_emb=config["abs_pos"],
        use_rel_pos_bias=config["rel_pos"],
        use_shared_rel_pos_bias=config["shared_rel_pos"],
        global_pool="avg" if config["mean_pool"] else "token",
    )
    model.load_state_dict(safetensors.torch.load_file(goldens / case / "timm.safetensors"), strict=True)
    return model.eval()


# transformers 4 to 5; the goldens have the names of 4, as published files have.
RENAMED = [
    ("encoder.layer.", "layers."),
    ("encoder.relative_position_bias.", "shared_position_bias."),
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.attention.relative_position_bias", "relative_position_bias"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
]


def renamed(name):
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def hf_model(case, config):
    model = transformers.BeitForImageClassification(
        transformers.BeitConfig(
            image_size=config["img"][0],
            patch_size=config["patch"],
            num_channels=config["in_chans"],
            hidden_size=config["embed"],
            num_hidden_layers=config["depth"],
            num_attention_heads=config["heads"],
            intermediate_size=int(config["embed"] * config["mlp_ratio"]),
            num_labels=config["classes"],
            layer_norm_eps=1e-6,  # what these weights were made with; transformers' own default is 1e-12
            layer_scale_init_value=config["init_values"],
            use_absolute_position_embeddings=config["abs_pos"],
            use_relative_position_bias=config["rel_pos"],
            use_shared_relative_position_bias=config["shared_rel_pos"],
            use_mean_pooling=config["mean_pool"],
            attn_implementation="eager",
        )
    )
    state = safetensors.torch.load_file(goldens / case / "hf.safetensors")
    state = {renamed(name): value for name, value in state.items()}
    model.load_state_dict(state, strict=True)
    return Logits(model.eval())


def write(name, case, make, opset, dynamo=False, batch=True):
    path = out / f"{name}.onnx"
    config = json.loads((goldens / case / "config.json").read_text())
    io = safetensors.torch.load_file(goldens / case / "io.safetensors")
    model = make(case, config)
    example = io["input"][:1]
    with torch.no_grad():
        # The goldens' own outputs: an export of another model would be no fixture.
        error = numpy.abs(model(io["input"]).numpy() - io["logits"].numpy()).max()
        if error > 1e-5:
            raise SystemExit(f"{name}: this model differs from the golden by {error}")
        ends = dict(input_names=["images"], output_names=["output"])
        if dynamo:
            two = torch.cat([example, example])
            shapes = {"dynamic_shapes": ({0: torch.export.Dim("n", min=1, max=64)},)} if batch else {}
            torch.onnx.export(
                model, (two,), path, opset_version=opset, dynamo=True, external_data=False, verbose=False, **ends, **shapes
            )
        else:
            axes = {"dynamic_axes": {"images": {0: "n"}, "output": {0: "n"}}} if batch else {}
            torch.onnx.export(model, (example,), path, opset_version=opset, dynamo=False, **ends, **axes)
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    # Python file names and stack traces of the machine that made it are in doc strings and metadata.
    for node in graph.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for part in (graph.graph.value_info, graph.graph.input, graph.graph.output, graph.graph.initializer):
        for value in part:
            value.ClearField("doc_string")
            del value.metadata_props[:]
    del graph.graph.value_info[:]
    del graph.graph.metadata_props[:]
    del graph.metadata_props[:]
    graph.ClearField("doc_string")
    graph.graph.ClearField("doc_string")
    path.unlink()
    # Expanded position tables repeat few numbers: a third is left. No time stamp: the same bytes again.
    packed = path.with_suffix(".onnx.gz")
    packed.write_bytes(gzip.compress(graph.SerializeToString(deterministic=True), 9, mtime=0))
    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    print(f"{name}: {case}, {packed.stat().st_size} bytes, {len(graph.graph.node)} nodes, opsets {opsets}, error {error:.1e}")


def eager(case, config):
    model = timm_model(case, config)
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


write("timm", "v1_cls", eager, 17)
write("timm-fused-opset14", "v1_cls_pool", timm_model, 14, batch=False)
write("timm-dynamo", "v1_abs_pos", timm_model, 18, dynamo=True)
write("transformers", "v1_shared_rel", hf_model, 17)
write("transformers-dynamo", "v1_cls", hf_model, 18, dynamo=True)
