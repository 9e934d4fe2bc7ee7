"""Tweets of two moods that an image's colour or a word gives away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits

COLOURS = {"gloomy": (20, 20, 60), "sunny": (250, 220, 60)}


@pytest.fixture(scope="session")
def tweets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train: 40 with a mood, 4 without, two copies among them, one without text, one without
    image; test: 8 with a mood, 2 without."""
    folder = tmp_path_factory.mktemp("tweets")
    rows = []

    def add(split: str, number: int, mood: str | None, looks: str, text: str) -> None:
        name = f"{split}-{number}.png"
        red, green, blue = COLOURS[looks]
        Image.new("RGB", (40, 32), (red, (green + 3 * number) % 256, blue)).save(folder / name)
        row = {"image": name, "text": text, "mood": mood, "stars": number % 3, "split": split}
        rows.append(row)

    for number in range(40):
        mood = ("gloomy", "sunny")[number % 2]
        add("train", number, mood, mood, f"a {mood} day, number {number}")
    for number in range(40, 44):
        add("train", number, None, "sunny", f"no mood, number {number}")
    rows[2]["text"] = "  A GLOOMY day, number 0"  # but for case and space the text of another
    (folder / "train-5.png").write_bytes((folder / "train-3.png").read_bytes())
    for number in range(10):
        mood = ("gloomy", "sunny")[number % 2]
        text = f"a {mood} day, number {number + 60}"
        add("test", number, mood if number < 8 else None, mood, text)
    blank = {"text": None, "mood": "sunny", "stars": 1, "split": "train"}
    Image.new("RGB", (9, 9)).save(folder / "mute.png")
    rows.append({**blank, "image": "mute.png"})
    rows.append({**blank, "image": None, "text": "a text without an image"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def splits(tweets: Path) -> PairSplits:
    return open_splits(str(tweets), image_size=32, seed=0, max_bad=0.5)
