from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tijepa.errors import CheckpointError
from tijepa.inference.embedder import Embedder
from tijepa.inference.hub.model_card import Provenance, page, read_provenance
from tijepa.model.saving import read_json


def test_every_figure_of_the_page_is_that_of_the_run(trained: Embedder, tiny_run: Path) -> None:
    text = page("tiny", trained.card, read_provenance(tiny_run / "model"))
    results = read_json(tiny_run / "results.json")
    found = results["energies"]["cosine"]["text_to_image"]
    recalls = " | ".join(f"{100 * found[f'recall_at_{k}']:.1f} %" for k in (1, 5, 10))
    assert f"| cosine | text → image | {recalls} |" in text
    rank = results["collapse"]["image"]["effective_rank"]
    assert f"- image: effective rank {rank:.3g} of 8" in text
    assert f"**{results['collapse']['verdict']}**" in text
    assert "- items: 32 train, 12 validation, 12 test" in text
    assert "- objective: `tijepa`" in text
    assert "- tasks and weights: text_to_image pooled 1, image_to_text pooled 1" in text
    assert "- regularizer of the image embeddings: `sigreg`, weight 0.05" in text
    assert "- 6 steps of 8 pairs, learning rate 0.001" in text
    assert "## Limits" in text


def test_the_head_of_the_page_is_the_yaml_that_the_hub_reads(trained: Embedder) -> None:
    text = page("tiny", trained.card, Provenance({}, {}, {}))
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "tijepa"
    assert head["pipeline_tag"] == "zero-shot-image-classification"


def test_what_is_not_known_is_said_to_be_unknown(trained: Embedder) -> None:
    text = page("tiny", trained.card, Provenance({}, {}, {}))
    assert "- source: unknown" in text
    assert text.count("Not measured, or not of this checkpoint.") == 2
    assert "None" not in text
    assert " nan" not in text


def test_a_model_of_scenes_says_that_it_knows_no_photos(trained: Embedder) -> None:
    known = Provenance({"data": {"source": "scenes"}}, {}, {})
    assert "says nothing of photos" in page("tiny", trained.card, known)


def test_a_final_model_has_its_runs_configuration_results_and_environment(run: Path) -> None:
    found = read_provenance(run / "model")
    assert found.config["objective"]["name"] == "tijepa"
    assert found.results == json.loads((run / "results.json").read_text())
    assert found.environment["items"] == {"train": 32, "validation": 12, "test": 12}


def test_nothing_that_tells_of_the_users_machine_is_kept(run: Path) -> None:
    """The run's data lie in a folder of absolute path: its last part is all that is told."""
    source = read_provenance(run / "model").config["data"]["source"]
    assert "/" not in source
    assert source.startswith("pairs")
    told = json.dumps(read_provenance(run / "model").to_json())
    assert str(run) not in told
    for key in ("command", "platform", "store", "data_"):
        assert key not in read_provenance(run / "model").environment


def test_results_are_those_of_this_checkpoint_or_none(run: Path) -> None:
    """results.json says checkpoint step-00000006."""
    assert read_provenance(run / "checkpoints/step-00000006").results
    assert not read_provenance(run / "checkpoints/step-00000003").results


def test_a_model_without_a_run_has_no_provenance(tmp_path: Path) -> None:
    for place in (None, tmp_path):
        assert read_provenance(place).to_json() == {
            "format": 1,
            "config": {},
            "results": {},
            "environment": {},
        }


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "config": 3}'])
def test_a_damaged_provenance_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"provenance\.json is damaged"):
        read_provenance(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [("config.yaml", "a: ["), ("config.yaml", "- 1"), ("results.json", "[1]")]
)
def test_a_damaged_file_of_the_run_is_an_error(name: str, text: str, run: Path) -> None:
    (run / name).write_text(text)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        read_provenance(run / "model")
