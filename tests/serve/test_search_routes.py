from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.inference.embedder import Embedder
from tijepa.search import Index
from tijepa.serve.app import create_app
from tijepa.serve.indexed_store import IndexedStore
from tijepa.serve.service import Service

HERE = "http://localhost:8000"


def test_hits_are_those_of_the_index(
    client: TestClient, served_model: Embedder, served_index: Index
) -> None:
    answer = client.get("/search", params={"text": "a red circle", "k": 5}).json()
    rows = served_model.encode_text("a red circle", form=served_index.form)
    expected = served_index.search(rows, 5)[0]
    assert [hit["row"] for hit in answer["hits"]] == [hit.row for hit in expected]
    for name in ("score", "energy"):
        assert [hit[name] for hit in answer["hits"]] == pytest.approx(
            [getattr(hit, name) for hit in expected], rel=1e-4, abs=1e-4
        )
    assert answer["hits"][0]["caption"] == expected[0].caption
    assert answer["items"] == 56
    posted = client.post("/search", data={"text": "a red circle", "k": 5}).json()
    assert posted["hits"] == answer["hits"]


def test_a_hit_says_what_the_columns_of_the_store_hold(client: TestClient) -> None:
    hit = client.get("/search", params={"text": "a ball", "where": "price = 2.5"}).json()["hits"][0]
    assert hit["row"] == 10
    expected = {"likes": 0, "price": 2.5, "brand name": "Acme", "width": 32, "split": "train"}
    assert {name: hit["columns"][name] for name in expected} == expected


def test_a_search_says_whether_anything_fits_and_the_base_rate(client: TestClient) -> None:
    answer = client.get("/search", params={"text": "a red circle", "k": 56}).json()
    assert answer["base_rate"] == 0.5
    assert answer["fits"] is (answer["hits"][0]["probability"] >= 0.1)
    data = client.get("/items/3/image").content
    alike = client.post("/search", files={"image": data}, data={"by": "likeness"}).json()
    assert (alike["base_rate"], alike["fits"]) == (None, None)


def test_a_parameter_that_the_route_lacks_is_refused(client: TestClient) -> None:
    """So that a misspelt `where` does not give what was to be left out."""
    misspelt = client.get("/search", params={"text": "red", "wher": "split = 'test'"})
    assert misspelt.status_code == 422
    assert misspelt.json()["error"] == (
        "parameter 'wher' is unknown; did you mean 'where'? (known: k, text, where)"
    )
    posted = client.post("/search", data={"text": "red", "count": 5})
    assert posted.status_code == 422
    assert posted.json()["error"].startswith("field 'count' is unknown")
    as_json = client.post("/search", json={"text": "red"})
    assert as_json.status_code == 415
    assert as_json.json() == {"error": "the body is JSON: send a form, multipart or url-encoded"}


def test_an_image_finds_images_like_it(client: TestClient) -> None:
    """The image of row 3 itself comes first."""
    data = client.get("/items/3/image?side=1280").content
    answer = client.post("/search", files={"image": data}, data={"k": 9, "by": "likeness"}).json()
    assert answer["form"] == "cosine"
    assert len(answer["hits"]) == 9
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert 3 in [hit["row"] for hit in answer["hits"][:2]]
    words = client.post("/search", data={"text": "red", "by": "likeness"})
    assert words.status_code == 422


def test_an_image_finds_items_by_their_nearest_caption_each_once(
    client: TestClient, served_model: Embedder, served_index: Index
) -> None:
    """All 112 captions are ranked; of the two of an item the nearer counts."""
    data = served_index.images([40])[0]
    assert data is not None
    answer = client.post("/search", files={"image": data}, data={"k": 56}).json()
    rows = [hit["row"] for hit in answer["hits"]]
    assert sorted(rows) == list(range(56))
    pixels = Image.open(io.BytesIO(data)).convert("RGB")
    ranked = served_index.search(
        served_model.encode_image(pixels, form=served_index.form), 112, among="texts"
    )[0]
    assert rows == list(dict.fromkeys(hit.row for hit in ranked))
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_a_condition_leaves_items_out(client: TestClient) -> None:
    params = {"text": "a ball", "k": 56, "where": "split = 'test'"}
    hits = client.get("/search", params=params).json()["hits"]
    assert len(hits) == 12
    assert {hit["split"] for hit in hits} == {"test"}


def test_a_blank_condition_is_none(client: TestClient) -> None:
    params = {"text": "a ball", "k": 56, "where": "  "}
    assert len(client.get("/search", params=params).json()["hits"]) == 56


def test_an_item_has_its_captions_and_its_image(client: TestClient, served_index: Index) -> None:
    item = client.get("/items/7").json()
    hit = served_index.store.take(np.array([7]), ["id", "captions"]).to_pylist()[0]
    assert (item["id"], item["captions"]) == (hit["id"], hit["captions"])
    assert (item["width"], item["height"]) == (32, 32)
    answer = client.get("/items/7/image", params={"side": 300})
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (32, 32)


def test_an_image_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/items/7/image").headers["etag"]
    again = client.get("/items/7/image", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_a_row_of_another_store_has_another_tag(
    served_model: Embedder, pairs_folder: Path, tmp_path: Path
) -> None:
    """The same pairs are written anew in the same place, at version 1 again."""
    place = tmp_path / "pairs.lance"
    tags = []
    for _ in range(2):
        shutil.rmtree(place, ignore_errors=True)
        write_store(open_reader(str(pairs_folder)), str(place))
        catalogue = IndexedStore(Index.build(served_model, str(place)))
        service = Service(served_model, tmp_path, catalogue)
        with TestClient(create_app(service, hosts={"localhost"}), base_url=HERE) as client:
            headers = client.get("/items/7/image").headers
        tags.append(headers["etag"])
        assert headers["cache-control"] == "private, no-cache"
    assert tags[0] != tags[1]


@pytest.mark.parametrize("path", ["/items/56", "/items/-1", "/items/56/image"])
def test_a_row_beyond_the_store_is_not_found(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "it has 56 rows" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/search?text=a", "/items/1", "/items/1/image"])
def test_without_a_store_there_is_nothing_to_search(path: str, serve: object) -> None:
    answer = serve(store=False).get(path)  # type: ignore[operator]
    assert answer.status_code == 404
    assert "tijepa serve RUN STORE" in answer.json()["error"]
