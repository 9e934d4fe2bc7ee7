"""The loader and its peers on the same images: made here, stored in each one's own format."""
