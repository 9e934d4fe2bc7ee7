"""Evaluations, and the report of a run."""
