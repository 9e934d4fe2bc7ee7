"""Tasks and masks, energies, regularizers, calibration; TI-JEPA, CLIP and SigLIP."""
