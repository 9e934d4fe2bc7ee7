"""Written whole or not at all; read back equal, or one line that says what is wrong."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tijepa.errors import CheckpointError
from tijepa.model.saving import (
    ModelCard,
    load_model,
    load_tensors,
    load_weights,
    read_card,
    read_json,
    save_model,
    save_tensors,
    write_json,
)
from tijepa.model.text_image_model import TextImageModel

MLP: dict[str, Any] = {"hidden": 8, "depth": 1, "norm": "batch"}
SIZE: dict[str, Any] = {"width": 8, "depth": 1, "heads": 2}


def arguments(embed_dim: int = 4, depth: int = 1) -> dict[str, Any]:
    size = {**SIZE, "depth": depth}
    return {
        "encoders": {
            "image": {"image_size": 8, "patch_size": 4, "pooling": "class", **size},
            "text": {"vocab_size": 20, "max_tokens": 6, **size},
            "head": MLP,
            "embed_dim": embed_dim,
        },
        "predictors": {
            "embed_dim": embed_dim,
            "pooled": MLP,
            "tokens": {"image_width": 8, "text_width": 8, "grid": 2, "max_tokens": 6, **SIZE},
        },
        "ema": True,
    }


def card(**changed: int) -> ModelCard:
    return ModelCard(arguments(**changed), objective="tijepa", image_size=8, max_tokens=6)


def model(seed: int = 0, **changed: int) -> TextImageModel:
    torch.manual_seed(seed)
    made = TextImageModel(**arguments(**changed))
    for value in made.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1.0)
    return made


def test_a_saved_model_comes_back_bit_for_bit_in_evaluation_mode(tmp_path: Path) -> None:
    saved = model().train()
    save_model(saved, card(), tmp_path)
    loaded, read = load_model(tmp_path)
    assert read == card()
    assert not any(part.training for part in loaded.modules())
    assert loaded.target is None
    wanted = {k: v for k, v in saved.state_dict().items() if not k.startswith("target.")}
    got = loaded.state_dict()
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], value) for name, value in wanted.items())
    image = torch.rand(2, 3, 8, 8)
    saved.eval()
    assert torch.equal(loaded.context.image(image).pooled, saved.context.image(image).pooled)


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    save_model(model(), card(), tmp_path)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_target_encoders_are_saved_too(tmp_path: Path) -> None:
    saved, other = model(0), model(1)
    save_model(saved, card(), tmp_path)
    path = tmp_path / "model.safetensors"
    load_weights(other, load_tensors(path), path)
    assert any(name.startswith("target.") for name in other.state_dict())
    for name, value in saved.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_views_and_transposes_are_saved_as_what_they_show(tmp_path: Path) -> None:
    whole = torch.arange(6.0).view(2, 3)
    named = {"row": whole[0], "turned": whole.T, "scalar": torch.tensor(3), "none": whole[:0]}
    save_tensors(named, tmp_path / "x.safetensors")
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert loaded.keys() == named.keys()
    assert all(torch.equal(loaded[name], value) for name, value in named.items())


def test_weights_of_another_shape_are_refused_and_the_parameter_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(model(embed_dim=4).state_dict(), path)
    wider = model(embed_dim=6)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_weights(wider, load_tensors(path), path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    name = message.split(": ")[1].split(" is ")[0]
    theirs, ours = load_tensors(path)[name].shape, wider.state_dict()[name].shape
    assert theirs != ours
    assert f"{list(theirs)} there and {list(ours)} in this model" in message
    assert all(torch.equal(before[name], value) for name, value in wider.state_dict().items())


def test_the_first_parameter_of_another_shape_is_always_the_same(tmp_path: Path) -> None:
    """In the order of names: "a" before "b", whatever the order of the file."""
    module = torch.nn.ParameterDict({"b": torch.zeros(2), "a": torch.zeros(2)})
    weights = {"b": torch.zeros(3), "c": torch.zeros(3), "a": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r": a is \[3\] there and \[2\] in this model"):
        load_weights(module, weights, tmp_path)


@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (2, 1)])
def test_missing_and_surplus_weights_are_refused(tmp_path: Path, ours: int, theirs: int) -> None:
    with pytest.raises(CheckpointError, match=r"blocks\.1\..*missing"):
        load_weights(model(depth=ours), model(depth=theirs).state_dict(), tmp_path)


def test_a_missing_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    for read, name in ((load_tensors, "x.safetensors"), (read_json, "x.json")):
        with pytest.raises(CheckpointError, match=rf"cannot read .*{name}: No such file") as error:
            read(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"cannot read .*model\.json"):
        load_model(tmp_path)


@given(keep=st.floats(0.0, 0.999))
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_truncated_file_is_reported_as_damaged(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors({"a": torch.randn(5, 7), "b": torch.arange(9)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load_tensors(path)


@given(at=st.integers(0, 60), value=st.integers(0, 255))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_byte_in_the_header_raises_nothing_else(
    tmp_path: Path, at: int, value: int
) -> None:
    """Either the file still makes sense (a letter of a name changed) or it is damaged."""
    path = tmp_path / "x.safetensors"
    save_tensors({"a": torch.randn(5, 7), "b": torch.arange(9)}, path)
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(bytes(content))
    with contextlib.suppress(CheckpointError):
        assert len(load_tensors(path)) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2"])
def test_damaged_json_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.json is damaged"):
        read_card(tmp_path)


@pytest.mark.parametrize("content", [[], {}, {"format": 99}])
def test_a_card_of_another_format_is_refused(tmp_path: Path, content: Any) -> None:
    write_json(content, tmp_path / "model.json")
    with pytest.raises(CheckpointError, match=r"model\.json is not of format 1"):
        read_card(tmp_path)


@pytest.mark.parametrize("change", ["missing", "surplus"])
def test_a_card_with_other_fields_is_damaged(tmp_path: Path, change: str) -> None:
    save_model(model(), card(), tmp_path)
    fields = json.loads((tmp_path / "model.json").read_text())
    if change == "missing":
        del fields["max_tokens"]
    else:
        fields["colour"] = "blue"
    write_json(fields, tmp_path / "model.json")
    with pytest.raises(CheckpointError, match=r"model\.json is damaged"):
        read_card(tmp_path)


def test_the_first_cards_lack_mean_and_std_which_were_a_half(tmp_path: Path) -> None:
    save_model(model(), card(), tmp_path)
    fields = json.loads((tmp_path / "model.json").read_text())
    del fields["mean"], fields["std"]
    write_json(fields, tmp_path / "model.json")
    assert read_card(tmp_path).mean == read_card(tmp_path).std == (0.5, 0.5, 0.5)


def test_mean_and_std_come_back_as_they_were(tmp_path: Path) -> None:
    own = dataclasses.replace(card(), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    save_model(model(), own, tmp_path)
    assert read_card(tmp_path) == own


@pytest.mark.parametrize("value", [None, 0.5, [0.5, 0.5], [0.5, 0.5, "0.5"], [0.5, 0.5, True]])
def test_a_card_whose_mean_is_not_three_numbers_is_damaged(tmp_path: Path, value: Any) -> None:
    save_model(model(), card(), tmp_path)
    fields = json.loads((tmp_path / "model.json").read_text())
    write_json({**fields, "mean": value}, tmp_path / "model.json")
    with pytest.raises(CheckpointError, match=r"model\.json is damaged \(mean is"):
        read_card(tmp_path)


def _full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _FullFile:
    """A file that takes the first bytes and then finds the disk full."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> _FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[:10])
        self.file.flush()
        _full_disk()


def _fill_disk(patch: pytest.MonkeyPatch, where: str) -> None:
    if where == "write":
        real = builtins.open

        def full(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            file = real(path, mode, *rest, **named)
            return _FullFile(file) if "w" in mode else file

        patch.setattr(builtins, "open", full)
    else:
        patch.setattr(os, where, _full_disk)


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, existing: bool
) -> None:
    path = tmp_path / "model.safetensors"
    if existing:
        save_tensors({"a": torch.tensor([1.0])}, path)
    with monkeypatch.context() as patch:
        _fill_disk(patch, where)
        with pytest.raises(CheckpointError, match="No space left on device; free some") as error:
            save_tensors({"a": torch.tensor([2.0])}, path)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == ([path] if existing else [])
    if existing:
        assert load_tensors(path)["a"].item() == 1.0


def test_an_interrupt_while_writing_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_json({}, tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_or_missing_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*Not a directory"):
        write_json({}, tmp_path / "file" / "x.json")
    with pytest.raises(CheckpointError, match=r"cannot write .*No such file or directory"):
        write_json({}, tmp_path / "nowhere" / "x.json")
