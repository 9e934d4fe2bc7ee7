"""Pretrained encoders in the place of our own: found, built, loaded, and trained as far as asked.

`folder.py` finds one by path, package or hub name; `image_source.py` and `text_source.py` read from
it what a run needs to know; `vit.py`, `timm_net.py`, `transformers_image.py` and
`transformers_text.py` are the networks; `image_backbone.py` and `text_backbone.py` make encoders of
them that return `Encoded`; `tuning.py` and `lora.py` say which weights are trained.
"""

from __future__ import annotations
