from __future__ import annotations

from pathlib import Path

import yaml

from tijepa.inference.embedder import Embedder
from tijepa.inference.hub.model_card import page
from tijepa.inference.hub.provenance import Provenance, read_provenance
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
