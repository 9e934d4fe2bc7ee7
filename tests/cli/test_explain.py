from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.complaints import below_reading

import tijepa
from tijepa.cli import main


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    return Path("image.png")


def test_the_overlay_and_the_lowest_cell_are_those_of_the_map(
    tiny_run: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(tiny_run), str(image), "a red circle", "--grid", "4"]) == 0
    model = tijepa.load(tiny_run)
    energy = model.energy_map(image, "a red circle", grid=4)
    row, column = divmod(int(energy.argmin()), 4)
    out = capsys.readouterr().out
    assert f"lowest energy {float(energy.min()):.3f} in row {row + 1}, column {column + 1}" in out
    pair = float(model.energy(image, "a red circle"))
    assert f"energy of the pair {pair:.3f} (calibrated, nats)" in out
    assert re.search(r"probability of match \d+\.\d\s%, base rate 50\.0\s%", out)
    with Image.open("overlay.png") as overlay:
        assert overlay.width == 512


def test_a_map_that_any_words_have_is_called_flat(
    tiny_run: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One cell has nothing to differ from."""
    assert main(["explain", str(tiny_run), str(image), "a red circle", "--grid", "1"]) == 0
    assert "flat: unrelated words have nearly the same map (correlation 1.00)" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "a ball"], r"'none.png' does not exist"),
        (["image.png", "  "], r"the text is empty: say what to look for"),
        (["image.png", "a ball", "--out", "map.jpg"], r"--out map.jpg is no PNG"),
        (["image.png", "a ball", "--out", "image.png"], r"is the image itself"),
        (["image.png", "a ball", "--grid", "17"], r"grid is 17: it must lie between 1 and 16"),
        (["image.png", "a ball", "--grid", "0"], r"'--grid'"),
        (["image.png", "a ball", "--checkpoint", "7"], r"no model '7' in"),
        (["image.png", "a ball", "--checkpoint", "newest"], r"neither best, last nor"),
        (["words.png", "a ball"], r"image words.png: not an image of a known format"),
        (["image.png", "a ball", "--out", "words.png/a.png"], r"cannot write words.png/a.png"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    tiny_run: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("words.png").write_text("no image")
    assert main(["explain", str(tiny_run), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert below_reading(err).count("\n") == 1
    assert re.search(message, err)
    assert not Path("overlay.png").exists()


def test_a_folder_without_model_is_refused(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", ".", str(image), "a ball"]) == 2
    assert "no model 'final' in .; it has no checkpoints" in capsys.readouterr().err


def test_a_model_that_foretells_words_says_which_fit(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "fine"
    tasks = ["objective.tasks.text_infill=1", "objective.tasks.text_only=1"]
    tiny = ["data.source=scenes", "data.image_size=32", "optim.steps=2", "optim.batch_size=8"]
    small = ["model.image.width=32", "model.image.depth=1", "model.text.width=32"]
    few = ["model.text.depth=1", "data.eval_items=16", "data.test_items=16", "compute.threads=1"]
    assert main(["train", "--out", str(run), *tasks, *tiny, *small, *few]) == 0
    capsys.readouterr()
    assert main(["explain", str(run), str(image), "a red circle", "--grid", "2"]) == 0
    out = capsys.readouterr().out
    words = tijepa.load(run).fine.words(image, "a red circle")
    assert words.words == ["a", "red", "circle"]
    for word, energy in zip(words.words, words.energy[0].tolist(), strict=True):
        assert f"{energy:9.2f}  {word}\n" in out
