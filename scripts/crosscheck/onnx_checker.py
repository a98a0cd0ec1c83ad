"""onnx.checker with full, strict shape inference on ONNX files; prints one line per file, exits 1 on the first bad one.

    python scripts/crosscheck/onnx_checker.py model.onnx [...]
"""

import sys

import onnx

for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(
        onnx.load(path, load_external_data=False), check_type=True, strict_mode=True, data_prop=True
    )
    outputs = {
        out.name: [d.dim_param or d.dim_value for d in out.type.tensor_type.shape.dim] for out in inferred.graph.output
    }
    print(f"{path}: ok, {len(inferred.graph.node)} nodes, {outputs}")
