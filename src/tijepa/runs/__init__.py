"""The record of a run: what its folder holds, its evaluation, comparison and report."""
