"""Names of splits, and the split of an item in a source that names none."""

from __future__ import annotations

import hashlib
import re
from difflib import get_close_matches

__all__ = ["canonical_split", "hash_fraction", "mistyped_split", "split_in_name", "split_of"]

_CANONICAL = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy: validation images of COCO that everyone trains on
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_CANONICAL, key=len, reverse=True))})(?![a-z])")


def canonical_split(name: str) -> str:
    """`name` in lower case; val, valid and dev are "validation", training and restval "train"."""
    stripped = name.strip().lower()
    return _CANONICAL.get(stripped, stripped)


def mistyped_split(name: str) -> str | None:
    """The usual split that `name` is probably meant to be; None for that and for other names."""
    if name in _CANONICAL.values():
        return None
    near = get_close_matches(name, _CANONICAL, n=1, cutoff=0.75)
    return _CANONICAL[near[0]] if near else None


def split_in_name(name: str) -> str | None:
    """The split that a file or folder name speaks of, None where it speaks of none or of several.

    "train-00000-of-00002", "captions_val2017" and "test" do; "latest" does not.
    """
    found = {_CANONICAL[word] for word in _WORD.findall(name.lower())}
    return found.pop() if len(found) == 1 else None


def split_of(item: str) -> str:
    """The split by a hash of the id alone: 90 % train, 5 % validation, 5 % test."""
    fraction = hash_fraction(item)
    return "train" if fraction < 0.9 else "validation" if fraction < 0.95 else "test"


def hash_fraction(item: str) -> float:
    """A number in [0, 1) that depends on the id alone and is spread evenly over ids."""
    digest = hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
