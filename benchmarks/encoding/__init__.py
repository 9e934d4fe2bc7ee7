"""The sides of the encoding benchmark: transformers' CLIP and ours, of the same shape."""
