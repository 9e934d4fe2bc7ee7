"""Flickr8k as seen by two frozen real networks, computed once, and models that train on top.

vit      ImageNet's ViT-Tiny/16 of 224 pixels: class token, mean of patches, a 2 x 2 grid of means
minilm   MiniLM-L6: mean of tokens, first token
flickr   features of all photos and captions in two files; made-up ones for a smoke test
stored   encoders that look features up, and the data of a run
"""
