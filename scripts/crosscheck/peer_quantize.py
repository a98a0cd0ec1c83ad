"""Quantises an ONNX file as the hub's ONNX repositories are made: what our own precisions are measured against.

    python scripts/crosscheck/peer_quantize.py peer.onnx --to quantized --out peer_quantized.onnx

The settings are those of transformers.js' conversion script (`scripts/quantize.py` there): dynamic 8 bits with unsigned weights per
tensor, because a BEiT export has a Conv; symmetric 4-bit blocks of 32.
"""

import argparse

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer


def dynamic(weights: QuantType):
    def make(source: str, out: str) -> None:
        options = {"EnableSubgraph": True, "MatMulConstBOnly": True}
        quantize_dynamic(source, out, weight_type=weights, extra_options=options)

    return make


def q4(source: str, out: str) -> None:
    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=True)
    quantizer.process()
    onnx.save(quantizer.model.model, out)


FORMS = {"quantized": dynamic(QuantType.QUInt8), "int8": dynamic(QuantType.QInt8), "q4": q4}

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("--to", choices=FORMS, required=True)
parser.add_argument("--out", required=True)
args = parser.parse_args()
FORMS[args.to](args.source, args.out)
