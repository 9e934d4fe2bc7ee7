from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import tijepa
from tijepa.errors import CheckpointError, ConfigError
from tijepa.inference.embedder import Embedder


def test_a_saved_model_gives_the_same_energies_and_probabilities(
    trained: Embedder, pairs_folder: Path, tmp_path: Path
) -> None:
    loaded = tijepa.load(trained.save(tmp_path / "a/model"))
    image = pairs_folder / "test-0.png"
    assert torch.equal(loaded.energy(image, "a ball"), trained.energy(image, "a ball"))
    assert loaded.match == trained.match


def test_the_page_survives_being_saved_again_far_from_the_run(
    trained: Embedder, tmp_path: Path
) -> None:
    first = trained.save(tmp_path / "a/model")
    second = tijepa.load(shutil.move(first, tmp_path / "b")).save(tmp_path / "c/model")
    assert "effective rank" in (second / "README.md").read_text()
    assert (second / "README.md").read_text() == (tmp_path / "b/README.md").read_text()


def test_saving_over_an_earlier_model_leaves_nothing_of_it(
    trained: Embedder, tmp_path: Path
) -> None:
    trained.save(tmp_path / "model")
    trained.calibrated_by(None).save(tmp_path / "model")
    assert tijepa.load(tmp_path / "model").calibration is None


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(
    trained: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        trained.save(tmp_path / "file/model")


def test_a_folder_of_other_files_is_refused_and_stays_as_it_is(
    trained: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("my notes")
    with pytest.raises(ConfigError, match="holds files that are no saved model: name a new or"):
        trained.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "my notes"


def test_a_save_that_was_cut_off_can_be_done_again(
    trained: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tijepa.inference.hub.transfer.save_model", cut_off)
        with pytest.raises(KeyboardInterrupt):
            trained.save(tmp_path / "model")
    trained.save(tmp_path / "model")
    assert torch.equal(
        tijepa.load(tmp_path / "model").encode_text(["a"]), trained.encode_text(["a"])
    )
