"""Encoders, predictors, target encoders, and a model on disk."""
