"""From images and strings to embeddings: inputs, engines that run a model, work on all cores."""

from __future__ import annotations
