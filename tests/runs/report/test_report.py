from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from tijepa.config import RunConfig
from tijepa.errors import CheckpointError, DataError
from tijepa.evaluate.collapse_metrics import modality_readings
from tijepa.evaluate.retrieval import match_results
from tijepa.inference.match_probability import MatchProbability
from tijepa.inference.results import Collapse, RunResults
from tijepa.runs.report.report import Query, Result, write_report

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
SVG_LEAVES = {"rect", "line", "polyline", "polygon", "circle"}  # may close themselves
CURVE = MatchProbability(slope=0.5, intercept=0.0)
ATTACK = '<script>alert(1)</script><img src=x onerror="alert(2)">'


class Page(HTMLParser):
    """Checks that tags balance; collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAVES
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def retrieval_of(recall: float) -> dict[str, object]:
    direction = {
        "recall_at_1": recall, "recall_at_5": 0.9125, "recall_at_10": 0.96, "median_rank": 2.0,
    }  # fmt: skip
    other = {**direction, "recall_at_1": recall - 0.05}
    return {
        "image_to_text": direction, "text_to_image": other,
        "num_images": 500, "num_texts": 500, "chance_at_1": 0.002,
    }  # fmt: skip


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (64, 48, 3), dtype=np.uint8)


def gallery(caption: str = "a red circle") -> list[Query]:
    images = [Result(0.1 * k, k == 1, image(k), caption) for k in range(6)]
    captions = [Result(0.1 * k, k == 0, caption=f"{caption} {k}") for k in range(5)]
    return [
        Query("text_to_image", images, text=caption),
        Query("image_to_text", captions, image=image(9)),
    ]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "my-run"
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    image = torch.randn(100, 16, generator=random)
    own = modality_readings(image)
    collapse = asdict(Collapse(own, own, 1.0, 2.0, verdict="healthy", reason="embeddings vary"))
    (folder / "config.yaml").write_text(RunConfig().to_yaml())
    environment = {
        "command": "tijepa train --preset scenes optim.lr=5e-4",
        "started": "2025-01-02T03:04:05",
        "data": "scenes of 64 pixels",
        "parameters": {"image encoder": 1000, "text encoder": 2345},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    results = {
        "split": "test",
        "form": "calibrated",
        "retrieval": retrieval_of(0.742),
        "energies": {"squared_l2": retrieval_of(0.655), "calibrated": retrieval_of(0.742)},
        "collapse": collapse,
        "match_probability": RunResults(
            match_probability=match_results(5 - 9 * torch.eye(30), CURVE, seen=False)
        ).to_json()["match_probability"],
    }
    (folder / "results.json").write_text(json.dumps(results))
    lines = [
        {"kind": "train", "step": s, "loss": 1 / s, "lr": 1e-3, "grad_norm": None,
         "energy/text_to_image/pooled": 0.5, "energy/image_infill/tokens": 0.6,
         "regularizer/image": 3.0}
        for s in range(20, 200, 20)
    ]  # fmt: skip
    held_out = {"split": "validation", "retrieval": retrieval_of(0.5), "collapse": collapse}
    evals = [{"kind": "eval", "step": s, **held_out} for s in (100, 180)]
    text = "".join(json.dumps(line) + "\n" for line in lines + evals)
    (folder / "metrics.jsonl").write_text(text)
    item = {"item": "broken.jpg", "reason": "cut short"}
    (folder / "rejected.jsonl").write_text(json.dumps(item) + "\n")
    return folder


def report(run_dir: Path, queries: list[Query] | None = None) -> Page:
    energy = 1 - torch.eye(64)
    path = write_report(run_dir, energy=energy, gallery=gallery() if queries is None else queries)
    assert path == run_dir / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_figures_of_the_results_are_on_the_page(run_dir: Path) -> None:
    text = report(run_dir).text.replace("\u00a0", " ")
    for figure in ("74.2 %", "69.2 %", "65.5 %", "91.2 %", "0.2 %", "371 ×", "Healthy"):  # noqa: RUF001
        assert figure in text
    assert "In 64 of 64 rows" in text


def test_every_section_tells_what_the_folder_holds(run_dir: Path) -> None:
    text = report(run_dir).text.replace("\u00a0", " ")
    for words in (
        "tijepa train --preset scenes optim.lr=5e-4", "started 2 January 2025, 03:04",
        "scenes of 64 pixels", "3,345",
        "text to image", "sigreg", "weight 0.05", "1,200 steps of 64 pairs", "broken.jpg",
        "cut short", "Learning rate", "Effective rank", "chance at 1", "patch_size: 16",
        "9 values are not finite", "30 matched and 600 shuffled pairs", "ROC curve 1.00",
    ):  # fmt: skip
        assert words in text


def test_the_page_loads_nothing_and_runs_nothing(run_dir: Path) -> None:
    page = report(run_dir)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {t for t, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                assert (value or "").startswith(("data:image/", "#"))
    html = (run_dir / "report.html").read_text()
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_images_tables_and_links_are_accessible(run_dir: Path) -> None:
    page = report(run_dir)
    assert page.all("html")[0]["lang"] == "en"
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("h1")) == len(page.all("main")) == 1
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= ids
    for svg in page.all("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"


def test_the_gallery_shows_five_answers_and_marks_the_match(run_dir: Path) -> None:
    page = report(run_dir)
    answers = [a for a in page.all("li") if a.get("class") in ("match", "other")]
    assert len(answers) == 10  # five images of six, five captions
    assert sum(a["class"] == "match" for a in answers) == 2
    assert page.text.count("✓") == 2 + 2  # two matches, the verdict, the explanation


def test_untrusted_text_is_shown_and_not_interpreted(run_dir: Path) -> None:
    hostile = run_dir.parent / "<script>alert(0)<"
    os.rename(run_dir, hostile)
    (hostile / "rejected.jsonl").write_text(json.dumps({"item": ATTACK, "reason": ATTACK}))
    (hostile / "environment.json").write_text(json.dumps({"command": ATTACK, ATTACK: ATTACK}))
    (hostile / "config.yaml").write_text(
        json.dumps({"objective": {"name": ATTACK}, "data": {"source": ATTACK}})
    )
    results = json.loads((hostile / "results.json").read_text())
    results["energies"] = {ATTACK: results["retrieval"]}
    results["form"] = results["split"] = results["collapse"]["reason"] = ATTACK
    results["match_probability"]["fitted_on"] = ATTACK
    (hostile / "results.json").write_text(json.dumps(results))
    metric = {"kind": "train", "step": 1, f"energy/{ATTACK}/pooled": 1.0}
    held_out = {"kind": "eval", "step": 1, "split": ATTACK, "retrieval": retrieval_of(0.3)}
    (hostile / "metrics.jsonl").write_text(f"{json.dumps(metric)}\n{json.dumps(held_out)}\n")
    page = report(hostile, gallery(ATTACK))
    assert not page.all("script")
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.text.count(ATTACK) >= 12
    assert page.all("title")
    assert "<script>alert(0)<" in page.text


def judged(run_dir: Path, *verdicts: str, words: str = "text embeddings shrink") -> None:
    """Evaluations at 20, 40, ... with these verdicts of the guard."""
    lines = []
    for number, verdict in enumerate(verdicts, start=1):
        health = {
            "verdict": verdict,
            "reason": f"{words} (since step 40)",
            "advice": [f"raise {words}"],
            "readings": {
                "image_to_text": {"gap": 0.5, "certainty": None},
                "text targets": {"drift": 0.25, "spread": 1.0},
            },
            "rollbacks": [{"from_step": 90, "to_step": 20, "reason": words}],
        }
        lines.append({"kind": "eval", "step": 20 * number, "health": health})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run_dir / "metrics.jsonl").write_text(text)


def test_the_guards_verdict_advice_and_rollbacks_are_in_the_health_section(run_dir: Path) -> None:
    judged(run_dir, "early", "healthy", "healthy", "degrading")
    text = report(run_dir).text
    for words in (
        "! Degrading At step 80: text embeddings shrink (since step 40).",
        "What usually helps:raise text embeddings shrink",
        "4060✓ Healthy",
        "9020text embeddings shrink",
        "How much nearer right partners are than wrong ones",
        "Drift between target encoders and context encoders",
        "While it trained the run was degrading at its last evaluation, step 80: see Health.",
    ):
        assert words in text, words


def test_a_run_that_ended_healthy_has_no_warning_at_the_top(run_dir: Path) -> None:
    judged(run_dir, "collapsed", "healthy")
    assert "see Health" not in report(run_dir).text


def test_a_run_that_no_guard_judged_says_so(run_dir: Path) -> None:
    assert "The collapse guard has not judged this run." in report(run_dir).text


def test_untrusted_words_in_the_health_section_are_not_interpreted(run_dir: Path) -> None:
    judged(run_dir, ATTACK, words=ATTACK)
    page = report(run_dir)
    assert not page.all("script")
    assert page.text.count(ATTACK) >= 4


def test_captions_with_broken_characters_are_written(run_dir: Path) -> None:
    page = report(run_dir, gallery("half a \ud83d pair, \x00 and \x1b[31m"))
    assert r"half a \ud83d pair, \x00 and \x1b[31m" in page.text


def test_an_empty_run_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    path = write_report(tmp_path, energy=torch.zeros(0, 0), gallery=[])
    page = Page(path.read_text())
    for words in (
        "Nothing has been evaluated yet", "No verdict", "config.yaml is not there (yet)",
        "metrics.jsonl is not there (yet)", "No retrievals were recorded",
        "No energies of held-out pairs", "No broken items were recorded",
        f"tijepa train --config runs/{tmp_path.name}/config.yaml",
    ):  # fmt: skip
        assert words in page.text


@pytest.mark.parametrize(
    "name", ["config.yaml", "environment.json", "results.json", "metrics.jsonl", "rejected.jsonl"]
)
def test_any_single_file_may_be_missing_or_damaged(run_dir: Path, name: str) -> None:
    (run_dir / name).write_text("{]\n")
    assert "damaged" in report(run_dir).text
    (run_dir / name).unlink()
    assert report(run_dir).text


def test_unfinished_training_is_marked_as_not_final(run_dir: Path) -> None:
    (run_dir / "results.json").unlink()
    text = report(run_dir).text.replace("\u00a0", " ")
    assert "step 180, validation split, not final" in text
    assert "50.0 %" in text


def test_figures_of_a_strange_type_do_not_break_the_page(run_dir: Path) -> None:
    (run_dir / "results.json").write_text('{"retrieval": {"image_to_text": 3}, "collapse": {}}')
    (run_dir / "config.yaml").write_text("objective: [1]\noptim: x\n")
    assert "not a number" in report(run_dir).text


def test_a_collapsed_run_is_called_collapsed(run_dir: Path) -> None:
    results = json.loads((run_dir / "results.json").read_text())
    results["collapse"].update(verdict="collapsed", reason="text embeddings are nearly the same")
    (run_dir / "results.json").write_text(json.dumps(results))
    page = report(run_dir)
    assert "✕ Collapsed" in page.text
    assert "Text embeddings are nearly the same." in page.text


def test_a_contrastive_run_is_named_as_such_and_has_no_tasks(run_dir: Path) -> None:
    (run_dir / "config.yaml").write_text("objective:\n  name: clip\n")
    text = report(run_dir).text
    assert "contrastive, for comparison" in text
    assert "Weights of the tasks" not in text


def test_a_failed_write_leaves_the_old_page_and_no_remains(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(run_dir)
    before = (run_dir / "report.html").read_bytes()
    files = sorted(run_dir.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*report.html: No space left"):
        report(run_dir, [])
    assert (run_dir / "report.html").read_bytes() == before
    assert sorted(run_dir.iterdir()) == files


def test_a_missing_run_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        write_report(tmp_path / "nowhere", energy=torch.eye(2), gallery=[])


def test_an_image_of_another_type_is_an_error(run_dir: Path) -> None:
    with pytest.raises(DataError, match="cannot be shown"):
        report(run_dir, [Query("image_to_text", [], image=np.zeros((8, 8)))])


def test_a_long_run_gives_a_page_of_modest_size(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("w") as file:
        for step in range(1, 20_001):
            file.write(f'{{"kind": "train", "step": {step}, "loss": {1 / step}, "lr": NaN}}\n')
    report(run_dir)
    assert (run_dir / "report.html").stat().st_size < 400_000
