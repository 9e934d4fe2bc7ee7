"""Every limit is answered by a clear 4xx of one line, and costs next to nothing."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tijepa.errors import ConfigError
from tijepa.serve.metrics import resident_bytes
from tijepa.serve.middleware import Limits

KEY = "a-key-of-sixteen-letters"

Serve = Callable[..., TestClient]


def refused(answer: object, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text  # type: ignore[attr-defined]
    body = answer.json()  # type: ignore[attr-defined]
    assert body.keys() == {"error"}
    assert words in body["error"]
    assert "\n" not in body["error"]


def huge_png() -> bytes:
    """A sound PNG of 20,000 x 10,000 pixels, one bit each, in 25 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2501 * 10_000), 9)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(kind: str, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(out, kind)
    return out.getvalue()


ENDPOINTS = pytest.mark.parametrize(
    ("path", "data"), [("/embed", {}), ("/energy", {"text": "a"}), ("/search", {}),
                       ("/explain", {"text": "a"})]
)  # fmt: skip


@ENDPOINTS
def test_an_image_of_200_megapixels_is_refused_from_its_header(
    path: str, data: dict[str, str], client: TestClient
) -> None:
    """Decoded it would take 200 to 600 MB; refused, memory stays where it was."""
    client.get("/health")
    before = resident_bytes()
    answer = client.post(path, files={"image": ("big.png", huge_png())}, data=data)
    refused(answer, 413, "pixels exceed the bound of 50,000,000")
    after = resident_bytes()
    if before is not None and after is not None:
        assert after - before < 80e6


def test_the_bound_on_pixels_is_the_server_s_own(serve: Serve) -> None:
    small, large = encoded("JPEG", (100, 100)), encoded("JPEG", (101, 100))
    one = serve(pixels=10_000)
    assert one.post("/embed", files={"image": small}).status_code == 200
    refused(one.post("/embed", files={"image": large}), 413, "101 x 100 pixels exceed")


@ENDPOINTS
def test_a_zip_that_is_called_an_image_is_refused(
    path: str, data: dict[str, str], client: TestClient
) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "x" * 1000)
    files = {"image": ("photo.jpg", out.getvalue(), "image/jpeg")}
    answer = client.post(path, files=files, data=data)
    refused(answer, 415, "not an image of a known format")


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 422, "the image has no bytes"),
        (encoded("PNG", (64, 64))[:60], 422, "cannot be decoded"),
        (encoded("JPEG", (64, 64))[:300], 422, "header is damaged"),
        (b"\x89PNG\r\n\x1a\n rest", 422, "header is damaged"),
    ],
)
def test_a_damaged_image_is_refused(
    data: bytes, status: int, words: str, client: TestClient
) -> None:
    refused(client.post("/embed", files={"image": ("a.png", data)}), status, words)


@pytest.mark.parametrize("path", ["/embed", "/energy", "/search", "/explain"])
def test_ten_megabytes_of_text_are_refused(path: str, client: TestClient, image: bytes) -> None:
    """Both as the part of a form with an image and url-encoded."""
    data = {"text": "a" * 10_000_000}
    answer = client.post(path, files={"image": image}, data=data)
    refused(answer, 413, "a text exceeds the bound of 2,000 characters")
    refused(client.post(path, data=data), 413, "the request exceeds the bound of")


def test_a_text_may_have_as_many_characters_as_the_bound_says(serve: Serve) -> None:
    """Of four bytes each in UTF-8, twelve in a url-encoded form."""
    one = serve(text_length=20)
    assert one.post("/embed", data={"text": "😀" * 20}).status_code == 200
    refused(one.post("/embed", data={"text": "😀" * 21}), 413, "a text of 21 characters exceeds")
    refused(one.get("/search", params={"text": "a" * 21}), 413, "a text of 21 characters")


def test_an_upload_beyond_the_bound_is_refused(serve: Serve) -> None:
    one = serve(upload_bytes=100_000)
    answer = one.post("/embed", files={"image": bytes(100_001)})
    refused(answer, 413, "the request exceeds the bound of 100,000 bytes")


def test_an_upload_that_does_not_say_its_length_is_refused_while_it_streams(serve: Serve) -> None:
    """Of a body without end no more is taken than the bound and what was under way."""
    sent = 0

    def endless() -> object:
        nonlocal sent
        head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        yield head
        for _ in range(40):
            sent += 65536
            yield bytes(65536)

    one = serve(upload_bytes=300_000)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = one.post("/embed", content=endless(), headers=headers)
    refused(answer, 413, "the request exceeds the bound of 300,000 bytes")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer another-key-of-letters"}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": f"Bearer {KEY}x"}, 401),
        ({"X-API-Key": "ä"}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer {KEY}"}, 200),
        ({"X-API-Key": KEY}, 200),
    ],
)
def test_only_the_key_opens(given: dict[str, str], status: int, serve: Serve) -> None:
    headers = {name: value.encode() for name, value in given.items()}
    one = serve(key=KEY)
    for path in ("/search?text=a", "/items/1", "/items/1/image", "/about", "/run", "/metrics"):
        answer = one.get(path, headers=headers)
        assert answer.status_code == status, path
        if status == 401:
            refused(answer, 401, "the API key is missing or wrong")
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/docs", "/page/app.js", "/health", "/openapi.json"])
def test_the_page_and_the_health_check_need_no_key(path: str, serve: Serve) -> None:
    assert serve(key=KEY).get(path).status_code == 200


def test_a_foreign_host_is_not_answered(client: TestClient) -> None:
    """A page whose name was made to point at this machine sends its own name as Host."""
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", ""):
        answer = client.get("/health", headers={"Host": host})
        assert (answer.status_code, answer.text) == (400, "Invalid host header")


@pytest.mark.parametrize(
    ("method", "path", "form", "status", "words"),
    [
        ("GET", "/nowhere", {}, 404, "there is no /nowhere"),
        ("GET", "/embed", {}, 405, "/embed does not take GET"),
        ("POST", "/embed", {}, 422, "there is nothing to embed"),
        ("POST", "/embed", {"text": " "}, 422, "a text is empty"),
        ("POST", "/embed", {"text": ["a"] * 65}, 422, "65 texts exceed the bound of 64"),
        ("POST", "/embed", {"text": "a", "form": "hyperbolic"}, 422, "form:"),
        ("POST", "/energy", {"text": "a"}, 422, "image: Field required"),
        ("POST", "/explain", {"text": "a"}, 422, "send either an image as image, or the row"),
        ("POST", "/explain", {"text": "a", "row": 99}, 404, "no image in row 99"),
        ("POST", "/explain", {"text": "a", "row": 1, "grid": 17}, 422, "grid:"),
        ("POST", "/search", {}, 422, "send either an image as image, or a text"),
        ("GET", "/search?text=a&k=0", {}, 422, "k:"),
        ("GET", "/search?text=a&k=201", {}, 422, "k:"),
        ("GET", "/search?text=a&where=nonsense+%3D+1", {}, 400, "nonsense"),
        ("GET", "/search?text=%20", {}, 422, "a text is empty"),
        ("GET", "/items/one", {}, 422, "row:"),
        ("GET", "/items/99999999999999999999", {}, 404, "the store has no"),
        ("GET", "/items/1/image?side=0", {}, 422, "side:"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    method: str, path: str, form: dict[str, object], status: int, words: str, client: TestClient
) -> None:
    kwargs = {"data": form} if method == "POST" else {}
    refused(client.request(method, path, **kwargs), status, words)


def test_too_many_images_are_refused(client: TestClient, image: bytes) -> None:
    files = [("image", ("a.png", image))] * 17
    answer = client.post("/embed", files=files)
    refused(answer, 422, "17 images exceed the bound of 16")


def test_limits_have_bounds_themselves() -> None:
    with pytest.raises(ConfigError, match="the limit concurrency is 0: it must be above 0"):
        Limits(concurrency=0)
    with pytest.raises(ConfigError, match="no image above 100,000,000 is decoded"):
        Limits(pixels=100_000_001)
