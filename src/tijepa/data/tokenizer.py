"""Captions to token ids: byte-pair encoding trained on the captions of the training split.

Text is normalised (NFKC, lower case), split at white space and punctuation, and each word is
encoded by merges (Sennrich et al., 2016, arXiv:1508.07909). Training is deterministic. A saved
tokenizer is one JSON file. The tokenizer of a pretrained text encoder is taken as it is, with the
special tokens that it puts around a text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers
import torch
from jaxtyping import Bool, Int
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from tijepa.errors import CheckpointError, ConfigError, DataError
from tijepa.io.formatting import first_line

PAD_ID, UNK_ID, CLS_ID = 0, 1, 2
_SPECIALS = ["[PAD]", "[UNK]", "[CLS]"]
_MAX_LETTERS = 1000  # single characters take at most these many entries, and at most half of all


@dataclass(frozen=True)
class Tokens:
    """Token ids of several captions, padded at the end; mask is True at real tokens."""

    ids: Int[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]


class Piece(NamedTuple):
    """Characters `start` to `end` of a text, a part of its word with this number."""

    start: int
    end: int
    word: int


class Tokenizer:
    """A vocabulary, trained here or taken from a pretrained encoder (then `pad_id` is its own).

    Thread-safe: nothing in it changes after construction.
    """

    def __init__(self, inner: tokenizers.Tokenizer, pad_id: int | None = None) -> None:
        inner.encode_special_tokens = True  # "[PAD]" inside a caption is text like any other
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self._pad_id = PAD_ID if pad_id is None else pad_id
        self._foreign = pad_id is not None
        self._specials = inner.num_special_tokens_to_add(False) if self._foreign else 1
        self._vocab_size = int(inner.get_vocab_size())

    @classmethod
    def train(
        cls, captions: Iterable[str], vocab_size: int, *, wordless: bool = False
    ) -> Tokenizer:
        """Learn at most `vocab_size` entries from `captions`, the three special ones included.

        The same captions give the same tokenizer, in whatever order. They are held in memory
        meanwhile. Characters beyond the most frequent become [UNK]. Raises `ConfigError` if
        `vocab_size` leaves no room for characters, `DataError` if no caption holds a word and that
        is not expected (`wordless`).
        """
        if vocab_size <= len(_SPECIALS):
            raise ConfigError(
                f"vocab_size is {vocab_size}: it must exceed {len(_SPECIALS)} (the special tokens)"
            )
        inner = tokenizers.Tokenizer(models.BPE(unk_token=_SPECIALS[UNK_ID]))
        inner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
        )
        texts = list(captions)
        letters: Counter[str] = Counter()
        for text in texts:
            letters.update(inner.normalizer.normalize_str(text))
        room = min(_MAX_LETTERS, (vocab_size - len(_SPECIALS) + 1) // 2)
        ranked = sorted((c for c in letters if not c.isspace()), key=lambda c: (-letters[c], c))
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=_SPECIALS,
            initial_alphabet=ranked[:room],
            limit_alphabet=len(ranked[:room]),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        if inner.get_vocab_size() <= len(_SPECIALS) and not wordless:
            raise DataError("no caption holds a word: a tokenizer needs some text to learn from")
        return cls(inner)

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Read a tokenizer that `save` wrote; `CheckpointError` if missing or not one of ours."""
        inner = cls._read(Path(path))
        if inner.padding is not None:  # `save` says so of a foreign one
            return cls(inner, int(inner.padding["pad_id"]))
        for index, token in enumerate(_SPECIALS):
            if inner.token_to_id(token) != index:
                raise CheckpointError(
                    f"{path} has {token} at {inner.token_to_id(token)}, not {index}: "
                    "it was not saved by tijepa; copy it anew from the run"
                )
        return cls(inner)

    @classmethod
    def of_backbone(cls, path: Path, pad_id: int) -> Tokenizer:
        """Read the `tokenizer.json` of a pretrained encoder; `CheckpointError` if it is damaged."""
        return cls(cls._read(path), pad_id)

    @staticmethod
    def _read(path: Path) -> tokenizers.Tokenizer:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise CheckpointError(
                f"cannot read tokenizer {path}: {error.strerror}; it is saved beside the model"
            ) from None
        except UnicodeDecodeError:
            raise CheckpointError(f"{path} is not a tokenizer: it is not UTF-8 text") from None
        try:
            return tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 (the library raises bare Exception)
            reason = first_line(error)
            raise CheckpointError(
                f"{path} is not a tokenizer: {reason}; copy it anew from the run"
            ) from None

    def save(self, path: Path | str) -> None:
        """Write the tokenizer as one JSON file; that of a pretrained encoder says how it pads."""
        text = self._inner.to_str(pretty=True)
        if self._foreign:
            copy = tokenizers.Tokenizer.from_str(text)
            copy.enable_padding(pad_id=self._pad_id)
            text = copy.to_str(pretty=True)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def fingerprint(self) -> str:
        """16 hexadecimal digits that everything in it decides."""
        text = f"{self._foreign} {self._pad_id} {self._inner.to_str()}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Number of entries; every id is below it."""
        return self._vocab_size

    def encode(self, texts: Sequence[str], max_tokens: int) -> Tokens:
        """Encode `texts`, each cut to `max_tokens` tokens, special ones included.

        Our own puts [CLS] first, so an empty text is [CLS] alone; a pretrained encoder's puts what
        it was trained with. Padded to the longest of this call.
        """
        least = self._specials + 1
        if max_tokens < least:
            raise ConfigError(
                f"max_tokens is {max_tokens}: it must be at least {least} ({self._specials} special"
                " and a token)"
            )
        rows = [self._ids(text, max_tokens) for text in texts]
        longest = max(map(len, rows), default=self._specials)
        ids = np.full((len(rows), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.bool_)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = True
        return Tokens(ids=torch.from_numpy(ids), mask=torch.from_numpy(mask))

    def words(self, text: str, max_tokens: int) -> list[Piece | None]:
        """What of the text each token of `encode` stands for; None for a special token."""
        encoded = self._inner.encode(text, add_special_tokens=False)
        pieces: list[Piece | None] = [
            Piece(*span, word=-1 if word is None else word)
            for span, word in zip(encoded.offsets, encoded.word_ids, strict=True)
        ]
        if not self._foreign:
            return [None, *pieces[: max_tokens - 1]]
        encoded.truncate(max_tokens - self._specials)
        inside = iter(pieces)
        special = self._inner.post_process(encoded).special_tokens_mask
        return [None if one else next(inside) for one in special]

    def _ids(self, text: str, max_tokens: int) -> list[int]:
        """The ids of one text with its special tokens."""
        encoded = self._inner.encode(text, add_special_tokens=False)
        if not self._foreign:
            ids: list[int] = encoded.ids
            return [CLS_ID, *ids[: max_tokens - 1]]
        encoded.truncate(max_tokens - self._specials)
        return list(self._inner.post_process(encoded).ids)
