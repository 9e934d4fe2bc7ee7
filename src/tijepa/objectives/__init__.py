"""Tasks and masks, energies, regularizers, calibration; TI-JEPA, CLIP and SigLIP."""

from __future__ import annotations
