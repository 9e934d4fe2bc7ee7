"""Out to the formats that others speak: ONNX graphs, and mteb's encoders."""

from __future__ import annotations
