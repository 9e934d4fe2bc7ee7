from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from tijepa.evaluate.grounding import UNRELATED, sameness
from tijepa.inference.embedder import Embedder

TEXTS = ["a red circle", "a blue star left of a green ring"]


def pixels(image: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(image)).convert("RGB"))


@pytest.mark.parametrize("form", ["calibrated", "cosine", "squared_l2"])
def test_embeddings_are_those_of_the_model(
    form: str, client: TestClient, served_model: Embedder, image: bytes
) -> None:
    files = [("image", ("a.png", image)), ("image", ("b.png", image))]
    answer = client.post("/embed", files=files, data={"text": TEXTS, "form": form}).json()
    images = served_model.encode_image([pixels(image)] * 2, form=form)
    texts = served_model.encode_text(TEXTS, form=form)
    assert answer["form"] == form
    assert answer["dimensions"] == images.shape[1]
    assert np.allclose(answer["images"], images, atol=1e-5)
    assert np.allclose(answer["texts"], texts, atol=1e-5)


def test_texts_alone_may_come_url_encoded(client: TestClient, served_model: Embedder) -> None:
    answer = client.post("/embed", data={"text": TEXTS}).json()
    assert answer["images"] == []
    expected = served_model.encode_text(TEXTS, form=served_model.default_form)
    assert np.allclose(answer["texts"], expected, atol=1e-5)


def test_energies_and_probabilities_are_those_of_the_model(
    client: TestClient, served_model: Embedder, image: bytes
) -> None:
    answer = client.post("/energy", files={"image": image}, data={"text": TEXTS}).json()
    energy = served_model.energy(pixels(image), TEXTS)
    probability = served_model.match_probability(pixels(image), TEXTS)
    assert answer["form"] == served_model.default_form
    assert np.allclose(answer["energy"], energy, rtol=1e-4, atol=1e-4)
    assert np.allclose(answer["probability"], probability, atol=1e-4)


def test_another_form_of_energy_has_no_probability(client: TestClient, image: bytes) -> None:
    data = {"text": "a ball", "form": "cosine"}
    answer = client.post("/energy", files={"image": image}, data=data).json()
    assert answer["form"] == "cosine"
    assert answer["probability"] is None


def test_the_map_and_its_lowest_cell_are_those_of_the_model(
    client: TestClient, served_model: Embedder, image: bytes
) -> None:
    data = {"text": TEXTS, "grid": 4}
    answer = client.post("/explain", files={"image": image}, data=data).json()
    assert (answer["grid"], answer["width"], answer["height"]) == (4, 40, 30)
    for text, one in zip(TEXTS, answer["maps"], strict=True):
        energy = served_model.energy_map(pixels(image), text, grid=4)
        assert one["text"] == text
        assert np.allclose(one["energy"], energy, rtol=1e-4, atol=1e-3)
        assert 4 * one["row"] + one["column"] == int(energy.argmin())
        pair = float(served_model.energy(pixels(image), text))
        assert one["pair"] == pytest.approx(pair, rel=1e-4, abs=1e-3)
        unrelated = [served_model.energy_map(pixels(image), u, grid=4) for u in UNRELATED]
        same = sameness(energy, torch.stack(unrelated))
        assert one["sameness"] == pytest.approx(same, abs=1e-3)
        assert one["flat"] is (one["sameness"] >= 0.8)
    assert answer["base_rate"] == 0.5


def test_an_item_of_the_store_is_explained_like_its_file(
    client: TestClient, served_index: object
) -> None:
    data = served_index.images([3])[0]  # type: ignore[attr-defined]
    by_row = client.post("/explain", data={"row": 3, "text": "a red circle"}).json()
    by_file = client.post("/explain", files={"image": data}, data={"text": "a red circle"}).json()
    assert by_row == by_file


def test_an_image_turned_by_its_exif_has_the_size_that_people_see(client: TestClient) -> None:
    """Stored 40 x 30 with orientation 6, it is 30 wide and 40 high."""
    image = Image.new("RGB", (40, 30), (200, 30, 30))
    exif = image.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    data = {"text": "a ball", "grid": 2}
    answer = client.post("/explain", files={"image": out.getvalue()}, data=data).json()
    assert (answer["width"], answer["height"]) == (30, 40)
