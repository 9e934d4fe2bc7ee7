from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.pretrained.tiny import write_tokenizer

from tijepa.data.tokenizer import CLS_ID, PAD_ID, UNK_ID, Tokenizer
from tijepa.errors import CheckpointError, ConfigError, DataError

CAPTIONS = [
    f"A {size} {colour} {shape} is {where} the table."
    for size in ("small", "large")
    for colour in ("red", "green", "blue")
    for shape in ("circle", "square")
    for where in ("on", "under")
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, 128)


def test_captions_start_with_cls_and_are_padded_to_the_longest(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["a red circle", "a", ""], 48)
    assert tokens.ids.shape == (3, 4)
    assert tokens.ids[:, 0].tolist() == [CLS_ID] * 3
    assert tokens.mask.sum(1).tolist() == [4, 2, 1]
    assert (tokens.ids[~tokens.mask] == PAD_ID).all()
    assert (tokens.ids[tokens.mask] != PAD_ID).all()
    assert tokens.ids.max() < tokenizer.vocab_size


def test_frequent_words_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["the large red circle is under the table."], 48).ids.shape == (1, 10)


def test_case_and_unicode_form_do_not_matter(tokenizer: Tokenizer) -> None:
    """NFKC maps full-width letters to plain ones."""
    tokens = tokenizer.encode(["RED Circle", "red   circle", "\uff52\uff45\uff44 circle"], 48)
    assert torch.equal(tokens.ids[0], tokens.ids[1])
    assert torch.equal(tokens.ids[0], tokens.ids[2])


def test_special_tokens_written_in_a_caption_stay_text(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["a [PAD] [CLS] a"], 48)
    assert tokens.mask.all()
    assert (tokens.ids == PAD_ID).sum() == 0
    assert (tokens.ids == CLS_ID).sum() == 1


def test_unknown_characters_become_the_unknown_token(tokenizer: Tokenizer) -> None:
    assert UNK_ID in tokenizer.encode(["犬"], 48).ids


@settings(deadline=None, max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"])), limit=st.integers(2, 12))
def test_long_captions_are_cut(tokenizer: Tokenizer, text: str, limit: int) -> None:
    whole = tokenizer.encode([text], 10_000)
    cut = tokenizer.encode([text], limit)
    assert cut.ids.shape[1] == min(limit, whole.ids.shape[1])
    assert torch.equal(cut.ids, whole.ids[:, :limit])


def test_the_order_of_captions_does_not_change_the_tokenizer(tmp_path: Path) -> None:
    captions = [*CAPTIONS, "ä ö ü ß ç ñ é è ê à â î ô û"]
    shuffled = random.Random(0).sample(captions, len(captions))
    Tokenizer.train(captions, 40).save(tmp_path / "a.json")
    Tokenizer.train(iter(shuffled), 40).save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@settings(deadline=None, max_examples=30)
@given(captions=st.lists(st.text(min_size=1), min_size=1), bound=st.integers(4, 200))
def test_the_vocabulary_stays_within_its_bound(captions: list[str], bound: int) -> None:
    captions = [caption.encode("utf-8", "ignore").decode() for caption in captions] + ["word"]
    assert 4 <= Tokenizer.train(captions, bound).vocab_size <= bound


def test_a_loaded_tokenizer_encodes_like_the_saved_one(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    texts = [*CAPTIONS, "[PAD] [CLS]", "new words, Ünknown"]
    assert loaded.vocab_size == tokenizer.vocab_size
    assert torch.equal(loaded.encode(texts, 20).ids, tokenizer.encode(texts, 20).ids)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"not json", b'{"model": 3}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_with_other_special_tokens_is_refused(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    path.write_text(path.read_text().replace("[CLS]", "[BOS]"))
    with pytest.raises(CheckpointError, match=r"\[CLS\]"):
        Tokenizer.load(path)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_impossible_settings_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="vocab_size is 3"):
        Tokenizer.train(CAPTIONS, 3)
    with pytest.raises(ConfigError, match="max_tokens is 1"):
        tokenizer.encode(["a"], 1)
    with pytest.raises(DataError, match="no caption holds a word"):
        Tokenizer.train(["", "  "], 64)


def test_threads_encode_alike(tokenizer: Tokenizer) -> None:
    expected = tokenizer.encode(CAPTIONS, 16).ids
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: tokenizer.encode(CAPTIONS, 16).ids, range(20)))
    assert all(torch.equal(ids, expected) for ids in results)


@pytest.fixture
def foreign(tmp_path: Path) -> Tokenizer:
    write_tokenizer(tmp_path)
    return Tokenizer.of_backbone(tmp_path / "tokenizer.json", pad_id=0)


def test_a_pretrained_tokenizer_puts_its_own_special_tokens(foreign: Tokenizer) -> None:
    """[CLS] is 2, [SEP] 3, words from 4 on; its own cut at five tokens does not count."""
    found = foreign.encode(["A red circle left of the dog", "dog", ""], 16)
    assert found.ids[0].tolist() == [2, 4, 5, 8, 10, 11, 14, 12, 3]
    assert found.ids[1].tolist() == [2, 12, 3, 0, 0, 0, 0, 0, 0]
    assert found.mask.sum(dim=1).tolist() == [9, 3, 2]
    cut = foreign.encode(["a red circle left"], 4)
    assert cut.ids.tolist() == [[2, 4, 5, 3]]
    with pytest.raises(ConfigError, match=r"max_tokens is 2: .* at least 3"):
        foreign.encode(["a"], 2)


def test_a_pretrained_tokenizer_is_the_same_after_saving(
    foreign: Tokenizer, tmp_path: Path
) -> None:
    foreign.save(tmp_path / "saved.json")
    again = Tokenizer.load(tmp_path / "saved.json")
    texts = ["a dog runs", "unknown [PAD] words", ""]
    first, second = foreign.encode(texts, 8), again.encode(texts, 8)
    assert torch.equal(first.ids, second.ids)
    assert torch.equal(first.mask, second.mask)
    assert foreign.fingerprint() == again.fingerprint()
