"""Pretrained encoders in the place of our own: found, built, loaded, and trained as far as asked.

`weights.py` finds one by path, package or hub name; `sources.py` reads from it what a run needs to
know; `vit.py` and `transformers_backend.py` are the networks; `backbones.py` makes encoders
of them that return `Encoded`; `trainable.py` says which weights are trained.
"""

from __future__ import annotations
