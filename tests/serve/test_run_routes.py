from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tijepa.runs.report.charts import Reference, Series, line_chart
from tijepa.runs.report.images import colour_ramp
from tijepa.serve.run_routes import run_answer
from tijepa.version import __version__

PAGE = Path(__file__).parents[2] / "src" / "tijepa" / "serve" / "page"


def test_the_server_says_that_it_is_up(client: TestClient) -> None:
    answer = client.get("/health").json()
    assert (answer["status"], answer["version"]) == ("ok", __version__)
    assert answer["uptime_seconds"] > 0


def test_metrics_count_what_was_answered(serve: Callable[..., TestClient]) -> None:
    one = serve(texts=7)  # a server of its own
    one.post("/embed", data={"text": ["a", "b"]})
    one.get("/items/999")
    one.get("/page/app.js")
    answer = one.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'tijepa_requests_total{method="POST",route="/embed",status="200"} 1.0',
        'tijepa_requests_total{method="GET",route="/items/{row}",status="404"} 1.0',
        "tijepa_batch_items_sum 2.0",
        "tijepa_running_requests 1.0",
    ):
        assert line in answer.text


def test_what_is_served_is_described(client: TestClient, serve: Callable[..., TestClient]) -> None:
    about = client.get("/about").json()
    assert (about["items"], about["store"], about["image_size"]) == (56, "pairs.lance", 32)
    assert about["form"] == about["forms"][0] == "calibrated"
    assert about["probability"] is True
    columns = {one.pop("name"): one for one in about["columns"]}
    brands = {"written": "`brand name`", "kind": "text", "values": ["Acme", "Bolt"]}
    assert columns["brand name"] == brands
    assert columns["likes"] == {"written": "likes", "kind": "integer", "values": [0, 1, 2, 3, 4]}
    assert columns["price"] == {"written": "price", "kind": "number", "values": None}
    assert columns["split"]["values"] == ["test", "train", "validation"]
    rows = [one["row"] for one in about["examples"]]
    assert 8 <= len(rows) <= 12
    assert rows == sorted(set(rows))
    bare = serve(store=False).get("/about").json()
    assert (bare["items"], bare["store"], bare["examples"]) == (None, None, [])


def test_the_record_of_the_run_is_that_of_its_folder(client: TestClient, tiny_run: Path) -> None:
    answer = client.get("/run").json()
    assert answer["name"] == tiny_run.name
    assert (answer["verdict"], answer["sign"]) == ("unjudged", "Not judged")  # of twelve pairs
    assert 0 <= answer["text_to_image"]["recall_at_1"] <= 1
    assert (answer["images"], answer["chance"]) == (12, pytest.approx(1 / 12))
    assert "final model" in answer["measured"]
    assert "<svg" in answer["curves"]
    assert "<script" not in answer["curves"] + answer["history"]
    facts = dict(answer["facts"])
    assert facts["Length"] == "6 steps of 8"
    assert "/" not in facts["Data"], "where the data lie is nobody's business"


def test_a_folder_that_holds_a_model_alone_says_so(tmp_path: Path) -> None:
    answer = run_answer(tmp_path)
    assert (answer.verdict, answer.image_to_text, answer.facts) == (None, None, [])
    assert answer.sign == "No verdict"
    assert any("metrics.jsonl is not there" in one for one in answer.problems)


def resolved(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (name, field, described)
        for name, model in schema["components"]["schemas"].items()
        for field, described in model.get("properties", {}).items()
    ]


def test_every_field_of_every_answer_is_documented(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    bare = [
        f"{name}.{field}"
        for name, field, one in resolved(schema)
        if not one.get("description") and "$ref" not in one
    ]
    assert bare == []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert "422" in operation["responses"], (method, path)
            for one in operation.get("parameters", []):
                assert one.get("description") or one["name"] == "row", (path, one["name"])


@pytest.mark.parametrize("path", ["/", "/docs", "/favicon.ico"])
def test_pages_are_allowed_to_load_from_this_server_only(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda file: file.name)
def test_no_file_of_the_page_names_another_server(file: Path, client: TestClient) -> None:
    text = file.read_text(encoding="utf-8")
    found = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text))
    assert found <= {"http://www.w3.org"}  # the name of SVG, which nothing loads
    assert client.get(f"/page/{file.name}").text == text


def test_the_map_has_the_colours_of_the_report() -> None:
    text = (PAGE / "map.js").read_text(encoding="utf-8")
    listed = text[text.index("RAMP = [") : text.index("];")]
    stops = [[int(n) for n in one] for one in re.findall(r"\[(\d+), (\d+), (\d+)\]", listed)]
    assert stops == colour_ramp(17).tolist()


def test_everything_in_a_chart_has_a_style(client: TestClient) -> None:
    """The server draws charts by the report's code and dresses them by the report's sheet."""
    series = [Series(str(k), [1, 2], [1.0, 2.0 * k], dashed=k == 1) for k in range(1, 9)]
    dense = Series("dense", list(range(900)), [float(k % 7) for k in range(900)])
    html = line_chart("t", series, reference=Reference("chance", 0.5), note="n")
    html += line_chart("d", [dense])
    used = {name for names in re.findall(r'class="([^"]+)"', html) for name in names.split()}
    style = client.get("/page/figures.css").text
    assert {name for name in used if f".{name}" not in style} == set()
