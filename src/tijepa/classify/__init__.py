"""Classifiers of pairs, images and texts on what a run's model knows of them."""

from __future__ import annotations

from tijepa.classify.finetune import Tuning
from tijepa.classify.fit import FitOptions, fit_classifier, probe_run
from tijepa.classify.saved import Classifier, load_classifier, predict_labels

__all__ = [
    "Classifier",
    "FitOptions",
    "Tuning",
    "fit_classifier",
    "load_classifier",
    "predict_labels",
    "probe_run",
]
