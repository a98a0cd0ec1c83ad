"""Writes fixtures/foreign/: ONNX files that torch.onnx.export makes of timm's and transformers' BEiT, from goldens' weights.

    python scripts/crosscheck/foreign-fixtures.py <folder of goldens> <output folder>

The goldens need timm.safetensors and hf.safetensors (the shared golden data has both). Never needed by `npm test`.
"""

import json
import pathlib
import re
import shutil
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import safetensors.torch
import torch
from onnxruntime.transformers import optimizer

# torchvision of another build than torch (a CUDA wheel beside a CPU one) lacks its operators; timm only imports it.
if not hasattr(torch.ops.torchvision, "nms"):
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import transformers  # noqa: E402

goldens, out = map(pathlib.Path, sys.argv[1:3])
own = pathlib.Path(__file__).parent.parent.parent / "fixtures" / "goldens"
out.mkdir(parents=True, exist_ok=True)


def folder(case):
    """The golden of segmentation is kept in this repository only."""
    return goldens / case if (goldens / case).exists() else own / case


class Outputs(torch.nn.Module):
    """transformers' models return an object; an ONNX graph returns tensors."""

    def __init__(self, model, *names):
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, pixel_values, mask=None):
        result = self.model(pixel_values) if mask is None else self.model(pixel_values, mask)
        given = tuple(getattr(result, name) for name in self.names)
        return given if len(given) > 1 else given[0]


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


def hf_config(config, **more):
    return transformers.BeitConfig(
        image_size=config["img"][0],
        patch_size=config["patch"],
        num_channels=config["in_chans"],
        hidden_size=config["embed"],
        num_hidden_layers=config["depth"],
        num_attention_heads=config["heads"],
        intermediate_size=int(config["embed"] * config["mlp_ratio"]),
        layer_norm_eps=1e-6,  # what these weights were made with; transformers' own default is 1e-12
        layer_scale_init_value=float(config["init_values"]),
        use_absolute_position_embeddings=config["abs_pos"],
        use_relative_position_bias=config["rel_pos"],
        use_shared_relative_position_bias=config["shared_rel_pos"],
        **{"attn_implementation": "eager", **more},
    )


def hf_state(case):
    state = safetensors.torch.load_file(folder(case) / "hf.safetensors")
    return {renamed(name): value for name, value in state.items()}


def hf_model(case, config, attention="eager"):
    model = transformers.BeitForImageClassification(
        hf_config(
            config,
            num_labels=config["classes"],
            use_mean_pooling=config["mean_pool"],
            attn_implementation=attention,
        )
    )
    model.load_state_dict(hf_state(case), strict=True)
    return Outputs(model.eval(), "logits")


def hf_features(case, config):
    """last_hidden_state and pooler_output, without a head."""
    model = transformers.BeitModel(hf_config(config, use_mean_pooling=config["mean_pool"]))
    state = {name.removeprefix("beit."): value for name, value in hf_state(case).items() if name.startswith("beit.")}
    model.load_state_dict(state, strict=True)
    return Outputs(model.eval(), "last_hidden_state", "pooler_output")


def hf_masked(case, config):
    model = transformers.BeitForMaskedImageModeling(
        hf_config(config, vocab_size=config["vocab"], use_mask_token=True)
    )
    model.load_state_dict(from_official(case), strict=True)
    return Outputs(model.eval(), "logits")


# unilm's names to those of transformers 5, for goldens that have no hf.safetensors.
OFFICIAL = [
    (r"^(cls_token|mask_token)$", r"beit.embeddings.\1"),
    (r"^pos_embed$", "beit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj", "beit.embeddings.patch_embeddings.projection"),
    (r"^blocks\.", "beit.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.([qv])_bias$", r".attention.\1_proj.bias"),
    (r"^norm\.", "layernorm."),
]


def from_official(case):
    out = {}
    for name, value in safetensors.torch.load_file(folder(case) / "official.safetensors").items():
        for pattern, replacement in OFFICIAL:
            name = re.sub(pattern, replacement, name)
        if name.endswith(".attn.qkv.weight"):
            for part, rows in zip("qkv", value.chunk(3)):
                out[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = rows
        else:
            out[name] = value
    return out


def hf_segment(case, config):
    """The golden is a folder that transformers wrote, with its own epsilon and names that only from_pretrained reads."""
    with tempfile.TemporaryDirectory() as saved:
        shutil.copy(folder(case) / "config.json", saved)
        shutil.copy(folder(case) / "hf.safetensors", pathlib.Path(saved) / "model.safetensors")
        model = transformers.BeitForSemanticSegmentation.from_pretrained(saved, attn_implementation="eager")
    return Outputs(model.eval(), "logits")


class Tokens(torch.nn.Module):
    """timm's forward_features."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.forward_features(pixel_values)


def timm_features(case, config):
    return Tokens(timm_model(case, config))


def golden(case):
    config = json.loads((folder(case) / "config.json").read_text())
    return config, safetensors.torch.load_file(folder(case) / "io.safetensors")


def save(name, case, graph, note):
    """Python file names and stack traces of the machine that made it are in doc strings and metadata."""
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
    content = graph.SerializeToString(deterministic=True)
    (out / f"{name}.onnx").write_bytes(content)
    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    print(f"{name}: {case}, {len(content)} bytes, {len(graph.graph.node)} nodes, opsets {opsets}, {note}")


# What the goldens keep of a model's outputs: an export of another model would be no fixture.
COMPARED = {
    "classify": lambda io, config, logits: [(logits, io["logits"])],
    "masked": lambda io, config, logits: [(logits, io["logits_all"])],
    "segment": lambda io, config, logits: [(logits, io["transformers.logits"])],
    "features": lambda io, config, *given: features(io, config, *given),
}


def features(io, config, tokens, pooled=None):
    if config["mean_pool"]:
        return [(tokens, io[f"hidden.{config['depth']}"]), (pooled, io["features"])]
    return [(tokens[:, 0], io["features"]), *([] if pooled is None else [(pooled, io["features"])])]


def write(name, case, make, opset, dynamo=False, batch=True, task="classify", outputs=("output",)):
    path = out / f"{name}.onnx"
    config, io = golden(case)
    model = make(case, config)
    inputs = (io["input"], io["mask"].bool()) if task == "masked" else (io["input"],)
    names = ["images", "mask"][: len(inputs)]
    with torch.no_grad():
        given = model(*inputs)
        pairs = COMPARED[task](io, config, *(given if isinstance(given, tuple) else (given,)))
        error = max(numpy.abs(one.numpy() - other.numpy()).max() for one, other in pairs)
        if error > 1e-5:
            raise SystemExit(f"{name}: this model differs from the golden by {error}")
        ends = dict(input_names=names, output_names=list(outputs))
        example = tuple(each[:1] for each in inputs)
        if dynamo:
            two = tuple(torch.cat([each, each]) for each in example)
            size = torch.export.Dim("n", min=1, max=64)
            shapes = {"dynamic_shapes": tuple({0: size} for _ in names)} if batch else {}
            torch.onnx.export(
                model, two, path, opset_version=opset, dynamo=True, external_data=False, verbose=False, **ends, **shapes
            )
        else:
            axes = {"dynamic_axes": {each: {0: "n"} for each in [*names, *outputs]}} if batch else {}
            torch.onnx.export(model, example, path, opset_version=opset, dynamo=False, **ends, **axes)
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    save(name, case, graph, f"error {error:.1e}")


def optimised(name, case, source):
    """As onnxruntime's offline optimiser for transformers rewrites `source`."""
    model = optimizer.optimize_model(str(out / f"{source}.onnx"), model_type="vit", num_heads=4, hidden_size=32, opt_level=0)
    save(name, case, model.model, str({key: n for key, n in model.get_fused_operator_statistics().items() if n}))


def saved_by_session(name, case, source):
    """As onnxruntime saves `source` after its own optimisation (extended: com.microsoft operators)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out / "session.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(out / f"{source}.onnx"), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(out / "session.onnx")
    (out / "session.onnx").unlink()
    save(name, case, graph, "saved by onnxruntime")


def attention_fused(name, case, source):
    """
    The optimiser finds no attention in BEiT (k has no bias, positions are added): so by hand, as other tools that know
    BEiT do it. Block 0 gets com.microsoft.Attention, block 1 com.microsoft.MultiHeadAttention.
    """
    config, io = golden(case)
    graph = onnx.load(out / f"{source}.onnx")
    nodes = list(graph.graph.node)
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.graph.initializer}
    made = {output: node for node in nodes for output in node.output}
    for block, softmax in enumerate([node for node in nodes if node.op_type == "Softmax"]):
        product = next(node for node in nodes if softmax.output[0] in node.input)
        moved = next(node for node in nodes if product.output[0] in node.input)
        joined = next(node for node in nodes if moved.output[0] in node.input)
        scores = made[softmax.input[0]]
        (positions,) = [each for each in scores.input if made.get(each) is None or made[each].op_type != "MatMul"]
        at = nodes.index(softmax)
        qkv = next(
            node
            for node in nodes[at::-1]
            if node.op_type == "MatMul" and node.input[1] in weights and weights[node.input[1]].shape == (32, 96)
        )
        shift = next(node for node in nodes if qkv.output[0] in node.input)
        bias = next(each for each in shift.input if each in weights)
        output = joined.output[0]
        if block == 0:
            fused = [
                onnx.helper.make_node(
                    "Attention",
                    [qkv.input[0], qkv.input[1], bias, "", "", positions],
                    [output],
                    domain="com.microsoft",
                    num_heads=config["heads"],
                )
            ]
        else:
            parts = [f"fused_{part}" for part in "qkv"]
            fused = [
                onnx.helper.make_node("Split", [shift.output[0]], parts, axis=2),
                onnx.helper.make_node(
                    "MultiHeadAttention",
                    [*parts, "", "", positions],
                    [output],
                    domain="com.microsoft",
                    num_heads=config["heads"],
                ),
            ]
        place = nodes.index(joined)
        nodes[place : place + 1] = fused
    # What nothing uses any more goes.
    needed = {each.name for each in graph.graph.output}
    kept = []
    for node in reversed(nodes):
        if needed.isdisjoint(node.output):
            continue
        kept.insert(0, node)
        needed.update(node.input)
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    graph.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.run(None, {"images": io["input"][:1].numpy()})[0]
    error = numpy.abs(given - io["logits"][:1].numpy()).max()
    if error > 1e-5:
        raise SystemExit(f"{name}: differs from the golden by {error}")
    save(name, case, graph, f"error {error:.1e}")


def eager(case, config):
    model = timm_model(case, config)
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


def sdpa(case, config):
    return hf_model(case, config, attention="sdpa")


write("timm", "v1_cls", eager, 17)
write("timm-fused-opset14", "v1_cls_pool", timm_model, 14, batch=False)
write("timm-dynamo", "v1_abs_pos", timm_model, 18, dynamo=True)
write("transformers", "v1_shared_rel", hf_model, 17)
write("transformers-dynamo", "v1_cls", hf_model, 18, dynamo=True)
write("timm-dynamo-opset20", "v1_cls_pool", timm_model, 20, dynamo=True)
write("timm-dynamo-opset23", "v1_cls_pool", timm_model, 23, dynamo=True)
write("transformers-dynamo-opset20", "v1_cls_pool", hf_model, 20, dynamo=True)
write("transformers-dynamo-opset23", "v1_cls_pool", sdpa, 23, dynamo=True)

optimised("ort-timm", "v1_cls_pool", "timm-fused-opset14")
optimised("ort-transformers-dynamo", "v1_cls_pool", "transformers-dynamo-opset20")
attention_fused("ort-attention", "v1_cls_pool", "ort-timm")
saved_by_session("ort-session", "v1_cls_pool", "timm-fused-opset14")

BOTH = ("last_hidden_state", "pooler_output")
write("features-transformers", "v1_cls_pool", hf_features, 18, dynamo=True, task="features", outputs=BOTH)
write("features-transformers-mean", "v1_shared_rel", hf_features, 17, task="features", outputs=BOTH)
write("features-timm", "v1_cls_pool", timm_features, 17, task="features")
write("masked-transformers", "mim_v1_abs", hf_masked, 17, task="masked")
optimised("ort-masked", "mim_v1_abs", "masked-transformers")
write("segment-transformers", "segmentation", hf_segment, 18, dynamo=True, task="segment")
