"""Captions to token ids: byte-pair encoding trained on the captions of the training split.

Text is normalised (NFKC, lower case), split at white space and punctuation, and each word is
encoded by merges (Sennrich et al., 2016, arXiv:1508.07909). Training is deterministic. A saved
tokenizer is one JSON file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch
from jaxtyping import Bool, Int
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from tijepa.errors import CheckpointError, ConfigError, DataError

__all__ = ["CLS_ID", "PAD_ID", "UNK_ID", "Tokenizer", "Tokens"]

PAD_ID, UNK_ID, CLS_ID = 0, 1, 2
_SPECIALS = ["[PAD]", "[UNK]", "[CLS]"]
_MAX_LETTERS = 1000  # single characters take at most these many entries, and at most half of all


@dataclass(frozen=True)
class Tokens:
    """Token ids of several captions, padded with `PAD_ID`; mask is True at real tokens."""

    ids: Int[Tensor, "b l"]
    mask: Bool[Tensor, "b l"]


class Tokenizer:
    """A trained vocabulary. Thread-safe: nothing in it changes after construction."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.encode_special_tokens = True  # "[PAD]" inside a caption is text like any other
        self._inner = inner
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
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise CheckpointError(
                f"cannot read tokenizer {path}: {error.strerror}; it is saved beside the model"
            ) from None
        except UnicodeDecodeError:
            raise CheckpointError(f"{path} is not a tokenizer: it is not UTF-8 text") from None
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 (the library raises bare Exception)
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{path} is not a tokenizer: {reason}; copy it anew from the run"
            ) from None
        for index, token in enumerate(_SPECIALS):
            if inner.token_to_id(token) != index:
                raise CheckpointError(
                    f"{path} has {token} at {inner.token_to_id(token)}, not {index}: "
                    "it was not saved by tijepa; copy it anew from the run"
                )
        return cls(inner)

    def save(self, path: Path | str) -> None:
        """Write the tokenizer as one JSON file."""
        Path(path).write_text(self._inner.to_str(pretty=True) + "\n", encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        """Number of entries; every id is below it."""
        return self._vocab_size

    def encode(self, texts: Sequence[str], max_tokens: int) -> Tokens:
        """Encode `texts`, each led by [CLS] and cut to `max_tokens` tokens, [CLS] included.

        Padded to the longest of this call. An empty text is [CLS] alone.
        """
        if max_tokens < 2:
            raise ConfigError(f"max_tokens is {max_tokens}: it must be at least 2 ([CLS], a token)")
        rows = [self._ids(text)[: max_tokens - 1] for text in texts]
        longest = 1 + max((len(row) for row in rows), default=0)
        ids = np.full((len(rows), longest), PAD_ID, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.bool_)
        for i, row in enumerate(rows):
            ids[i, 0] = CLS_ID
            ids[i, 1 : 1 + len(row)] = row
            mask[i, : 1 + len(row)] = True
        return Tokens(ids=torch.from_numpy(ids), mask=torch.from_numpy(mask))

    def would_cut(self, text: str, max_tokens: int) -> bool:
        """Whether `encode` with this `max_tokens` would lose the end of `text`."""
        return 1 + len(self._ids(text)) > max_tokens

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids
