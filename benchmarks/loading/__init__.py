"""The loader and its peers on the same pictures: made here, stored in each one's own format."""
