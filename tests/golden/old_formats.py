"""What is asked of the folders under `fixtures/`, and how such a folder is made.

    .venv/bin/python -m tests.golden.old_formats tests/golden/fixtures/vCOMMIT

writes one by the version that is checked out, with its answers in `expected.json`: once for each
version whose files must stay readable, never again for the same one, since an old folder is worth
something only as the old version wrote it. Add it by `git add -f`: `.gitignore` knows names in it.

In a folder, `pairs.lance` is a store with the index of one model and the features of another
beside it; `finished` is a run with a classifier, `interrupted` the same run stopped after three
of its six steps, `frozen` one on pretrained encoders, whose folders are gone. Runs and index hold
the store's absolute path; in the committed files a placeholder stands for the folder's place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden.material import write_backbones, write_pairs
from tests.golden.runs import (
    BASE,
    MLP,
    NO_REGULARIZER,
    OWN,
    figures,
    interrupt,
    merged,
    one_thread,
    read_run,
    succeed,
)

import tijepa

HERE = "/PLACE-OF-THE-FIXTURE"
NAMES_ITS_PLACE = ("environment.json", "index.json", "results.json")
TEXTS = ["a red box at the left", "grey ground with a blue box on it", "words never seen"]
FORMS = ("calibrated", "cosine", "squared_l2")
SCHEDULE = ["optim.steps=6", "log.eval_every=6", "log.save_every=6", "log.keep_last=1"]
SETTINGS = merged(BASE, SCHEDULE)


def _embeddings() -> Any:
    return {run: _of_model(tijepa.load(run)) for run in ("finished", "frozen")}


def _of_model(model: Any) -> Any:
    pictures = sorted(str(path) for path in Path("pictures").iterdir())
    found: dict[str, Any] = {"pairs": model.encode_pair(pictures, TEXTS).tolist()}
    for form in FORMS:
        found[form] = {
            "images": model.encode_image(pictures, form=form).tolist(),
            "texts": model.encode_text(TEXTS, form=form).tolist(),
            "energy": model.energy(pictures, TEXTS, form=form).tolist(),
        }
    return {**found, "match_probability": model.match_probability(pictures, TEXTS).tolist()}


def _search() -> Any:
    search = ["search", "finished", "pairs.lance", "--json"]
    train = "colour = 'red' AND split = 'train'"
    return {
        "by text": _hits(*search, TEXTS[0], "--k", "3"),
        "by text among some": _hits(*search, TEXTS[1], "--where", "colour = 'blue'"),
        "by picture": _hits(*search, "--image", "pictures/0.jpg", "--where", train),
    }


def _hits(*arguments: str) -> Any:
    """Without the order of equal ones, which nothing promises.

    What a calibrated search ranks by was named energy then, with the other sign.
    """
    answer = json.loads(succeed(*arguments))
    assert answer["behind"] == 0
    keys = ("id", "row", "caption", "split", "probability")
    hits = [{**{key: hit[key] for key in keys}, "energy": -hit["score"]} for hit in answer["hits"]]
    return sorted(hits, key=lambda hit: (round(hit["energy"], 4), hit["id"], hit["caption"]))


def _evaluation() -> Any:
    return {
        run: figures(json.loads(succeed("evaluate", run, "--json")))
        for run in ("finished", "frozen")
    }


def _resumed(run: str) -> Callable[[], Any]:
    def resume() -> Any:
        succeed("train", "--resume", "--out", run)
        found = read_run(Path(run))
        return {key: found[key] for key in ("steps", "loss", "grad_norm", "figures")}

    return resume


def _training() -> Any:
    given = merged(SETTINGS, [*OWN, *MLP, "seed=5"])
    succeed("train", *given, "--data", "pairs.lance", "--out", "fresh")
    return {key: read_run(Path("fresh"))[key] for key in ("steps", "loss", "grad_norm", "figures")}


def _doctor() -> Any:
    facts = json.loads(succeed("doctor", "pairs.lance", "--json", "--threads", "0"))
    told = {key: facts[key] for key in ("verdict", "counts", "splits")}
    # the record's word for rejected items is that of its version
    told["counts"]["set_aside"] = told["counts"].pop("rejected")
    return told


def _labels() -> Any:
    use = ["classify", "predict", "finished", "pairs.lance", "--name", "colour", "--all"]
    succeed(*use, "--split", "test", "--out", "labels.jsonl")
    return [json.loads(line) for line in Path("labels.jsonl").read_text().splitlines()]


QUESTIONS: dict[str, Callable[[], Any]] = {
    "embeddings and energies": _embeddings,
    "search": _search,
    "evaluation": _evaluation,
    "predicted labels": _labels,
    "resuming the interrupted run": _resumed("interrupted"),
    "resuming the finished run": _resumed("finished"),
    "training on the store": _training,
    "doctor": _doctor,
}


def unpack(fixture: Path, to: Path) -> Path:
    """A copy of the folder that may be changed, as if its files had been made there."""
    shutil.copytree(fixture, to)
    _replace(to, HERE, str(to))
    return to


def _replace(folder: Path, old: str, new: str) -> None:
    for name in NAMES_ITS_PLACE:
        for path in folder.rglob(name):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]), "utf-8")


def write_fixture(folder: Path) -> None:
    """Make `folder` by the version of tijepa at hand, with its answers to all questions."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        place = Path.cwd() / "made"
        place.mkdir()
        os.chdir(place)
        os.environ["TIJEPA_CACHE"] = f"{name}/cache"
        with one_thread():
            _make(Path(name))
        for path in place.rglob("environment.json"):
            _scrub(path)
        _replace(place, str(place), HERE)
        shutil.copytree(place, folder)
        os.chdir(name)
        answers = {}
        for number, (question, ask) in enumerate(QUESTIONS.items()):
            os.chdir(unpack(folder, Path(name) / f"copy-{number}"))
            answers[question] = ask()
        os.chdir(name)
    (folder / "expected.json").write_text(json.dumps(answers) + "\n", encoding="utf-8")


def _make(elsewhere: Path) -> None:
    counts = {"train": 24, "validation": 8, "test": 8}
    photos = write_pairs(elsewhere / "photos", counts, size=48, ending="jpg")
    succeed("prepare", "../photos", "--out", "pairs.lance", "--threads", "0")
    Path("pictures").mkdir()
    for number, picture in enumerate(sorted(photos.glob("*.jpg"))[30 : 30 + len(TEXTS)]):
        shutil.copy(picture, f"pictures/{number}.jpg")
    train = ["train", *SETTINGS, "--data", "pairs.lance"]
    succeed(*train, *OWN, *MLP, "--out", "finished")
    interrupt([*train, *OWN, *MLP, "--out", "interrupted"], Path("interrupted"), after=3)
    write_backbones(Path())
    towers = ["model.image.backbone=vit", "model.text.backbone=bert", *NO_REGULARIZER]
    succeed(*train, *towers, "model.pooled_predictor.kind=covariance", "--out", "frozen")
    succeed("index", "finished", "pairs.lance", "--threads", "1")
    fit = ["classify", "fit", "finished", "pairs.lance", "--label", "colour", "--folds", "0"]
    succeed(*fit)
    for needless in ("vit", "bert", "pairs.prepared", "frozen/checkpoints"):
        shutil.rmtree(needless)
    for pattern in ("report.html", "*.lock"):
        for path in Path().rglob(pattern):
            path.unlink()


def _scrub(path: Path) -> None:
    """Leave out what would tell of the machine."""
    environment = json.loads(path.read_text(encoding="utf-8"))
    environment |= {"platform": "Linux", "processor": "a processor", "command": "tijepa train"}
    path.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_fixture(Path(sys.argv[1]).absolute())
