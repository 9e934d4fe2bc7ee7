"""Dynamic quantisation: weights and, as they come, activations of matrix products in 8 bits."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from tijepa.errors import MissingExtraError

__all__ = ["quantise"]


def quantise(graph: Path, out: Path) -> None:
    """Write `graph` with every matrix product of a constant in int8, one scale a column.

    Convolutions, attention and norms stay in float32: they are a small part of the work, and
    integer convolutions are slower than those in float32.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtraError(str(error.name), "onnx") from None
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises preprocessing, which gains nothing here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_dynamic(
                graph,
                out,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
    finally:
        logging.root.setLevel(level)
