"""Whole run configurations as data, one per file."""
