"""Search by energy over the pairs of a store, and what else is made of a whole store's embeddings.

`Index.build(run, store)` embeds every image and caption and keeps the embeddings beside the store;
`Index.open(run, store)` opens them again, and `index.search(rows, k)` answers.
"""

from __future__ import annotations

from tijepa.search.exact import Hit
from tijepa.search.index import Index

__all__ = ["Hit", "Index"]
