from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import tijepa
from tijepa.cli import main
from tijepa.cli.tables import zero_shot_table
from tijepa.data.scenes.shapes import SHAPES
from tijepa.data.scenes.world import COLOURS
from tijepa.evaluate.zero_shot import labelled_images
from tijepa.inference.results import RunResults
from tijepa.runs.evaluation import evaluate_run, zero_shot_on


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that evaluates on 12 items, since scenes of one object are searched for."""
    folder = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("small") / "run"))
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub(r"test_items: \d+", "test_items: 12", text))
    return folder


def test_a_label_has_the_lowest_mean_energy_of_its_prompts(tiny_run: Path) -> None:
    """By hand: the mean over the eight shapes of the energies of "a COLOUR SHAPE"."""
    from tijepa.data.scenes import Scenes

    model = tijepa.load(tiny_run)
    scenes = Scenes("test", 5, image_size=32)
    found = zero_shot_on(model, scenes, "colour", None, 20)
    images = labelled_images(scenes, "colour", model.card, 20)
    names = sorted(set(images.values))
    right = 0
    for image, value in zip(images.images, images.values, strict=True):
        means = []
        for colour in names:
            e = model.embeddings_of_inputs(image[None], [f"a {colour} {s}" for s in SHAPES])
            means.append(float(model.search_energies_of(e, "calibrated").texts.mean()))
        right += names[means.index(min(means))] == value
    assert found.top_1 == pytest.approx(right / 20)
    assert found.chance == 1 / len(names)
    assert set(names) <= set(COLOURS)


def test_the_command_prints_a_table_and_json_holds_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.yaml"
    labels = {colour: [f"a {colour} thing"] for colour in COLOURS}
    prompts.write_text(json.dumps({"labels": labels}))
    command = ["evaluate", str(run), "--data", "scenes", "--zero-shot", "colour"]
    assert main([*command, "--prompts", str(prompts), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["zero_shot"]
    assert found["prompts"]["red"] == "a red thing"
    assert len(found["labels"]) == 8
    assert sum(label["items"] for label in found["labels"]) == found["items"] == 12
    console = Console(record=True, width=100)
    scored = RunResults.from_json({"zero_shot": found}).zero_shot
    assert scored is not None
    console.print(zero_shot_table(scored))
    text = console.export_text()
    assert f"Zero-shot colour: {found['items']} images, 8 labels" in text
    assert "chance 12.5" in text


def test_prompts_without_a_column_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_text("templates: ['{}']")
    assert main(["evaluate", str(run), "--prompts", str(tmp_path / "p.yaml")]) == 2
    assert "--prompts has no effect without --zero-shot COLUMN" in capsys.readouterr().err


def test_a_value_that_the_file_leaves_out_is_an_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("labels: {red: a, blue: b}")
    with pytest.raises(tijepa.DataError, match=r"for which .*p\.yaml has no label"):
        evaluate_run(run, data="scenes", column="colour", prompts=tmp_path / "p.yaml")
