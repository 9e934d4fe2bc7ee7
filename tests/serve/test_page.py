"""The web page in a real browser: search, explain, health, phone width, errors, keyboard.

Screenshots go to the folder named by CI_OUTPUT_DIR, else to a temporary one.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tijepa.inference.embedder import Embedder
from tijepa.search import Index
from tijepa.serve.app import create_app
from tijepa.serve.indexed_store import IndexedStore
from tijepa.serve.service import Service

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
KEY = "a-key-of-sixteen-letters"
WORDS = "a red circle"
LONG = 30_000  # milliseconds; the machine may be busy

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)


@pytest.fixture(scope="module")
def at(tiny_run: Path, served_model: Embedder, served_index: Index) -> Iterator[Callable[..., str]]:
    """A function that starts a server in a thread and returns its address."""
    running: list[tuple[Any, threading.Thread]] = []

    def start(*, store: bool = True, key: str | None = None) -> str:
        catalogue = IndexedStore(served_index) if store else None
        app = create_app(Service(served_model, tiny_run, catalogue), key=key)
        config = uvicorn.Config(app, port=0, log_level="error", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def address(at: Callable[..., str]) -> str:
    return at()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens an address; at the end nothing else was asked for, nothing failed."""
    contexts: list[Any] = []
    asked: set[str] = set()
    wrong: list[str] = []

    def opened(url: str, expect: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LONG)
        page.on("request", lambda request: asked.add(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def said(message: Any) -> None:
            if message.type == "error" and not (expect and re.search(expect, message.text)):
                wrong.append(message.text)

        page.on("console", said)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
    assert {url for url in asked if not re.match(r"http://127\.0\.0\.1:|blob:|data:", url)} == set()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("CI_OUTPUT_DIR")
    folder = Path(given) / "page" if given else tmp_path_factory.mktemp("page")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


SETTLED = """[...document.images].every((image) => !image.src || !image.offsetParent
  || image.complete || image.getBoundingClientRect().top > innerHeight)"""


def until(page: Any, expression: str) -> None:
    """Wait for it; Playwright's own wait evaluates strings, which the page's policy forbids."""
    end = time.monotonic() + LONG / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def shoot(page: Any, path: Path, **options: Any) -> None:
    until(page, SETTLED)
    page.wait_for_timeout(250)  # what fades in has faded in
    page.screenshot(path=path, **options)
    assert path.stat().st_size > 5000


def search(page: Any, words: str = WORDS) -> None:
    page.fill("#words", words)
    page.wait_for_selector("#results .meta")


def test_words_find_images_with_their_scores_and_probabilities(
    open_page: Callable[..., Any], address: str, shots: Path, served_model: Embedder
) -> None:
    page = open_page(address)
    page.wait_for_selector("#mosaic img")
    shoot(page, shots / "start.png")
    search(page)
    assert page.locator("#results li").count() == 24
    assert "24 of 56 items in" in page.inner_text("#search-status")
    shown = page.locator("#results .meta span").all_inner_texts()
    scores = [float(one.split()[1].replace("\u2212", "-")) for one in shown]
    assert scores == sorted(scores, reverse=True)
    assert all(re.fullmatch(r"[<>]?\s?\d+\.\d\s%", one.replace("\u00a0", " "))
               for one in page.locator("#results .meta b").all_inner_texts())  # fmt: skip
    shoot(page, shots / "search.png")
    page.click("#more")
    until(page, "document.querySelectorAll('#results li').length === 48")


def test_columns_are_chosen_from_shown_and_ordered_by(
    open_page: Callable[..., Any], address: str, shots: Path
) -> None:
    """Of the 12 items of the test split, rows 44 to 55, those of even rows are by Acme."""
    page = open_page(address)
    search(page)
    page.click("#filter summary")
    page.select_option("#facets [data-column=split]", "'test'")
    page.select_option("#facets [data-column='brand name']", "'Acme'")
    assert page.input_value("#where") == "split = 'test' AND `brand name` = 'Acme'"
    until(page, "document.querySelectorAll('#results li').length === 6")
    page.click("#shown-columns button:text-is('price')")
    page.select_option("#order", "-price")
    prices = page.locator("#results .values dd").all_inner_texts()
    assert prices == ["13.5", "13", "12.5", "12", "11.5", "11"]
    assert "price, high to low" in page.inner_text("#search-status")
    shoot(page, shots / "columns.png")
    page.select_option("#facets [data-column=split]", "")
    assert page.input_value("#where") == "`brand name` = 'Acme'"
    page.fill("#where", "likes > 1 OR likes = 0")
    page.select_option("#facets [data-column='brand name']", "'Bolt'")
    assert page.input_value("#where") == "(likes > 1 OR likes = 0) AND `brand name` = 'Bolt'"
    page.fill("#where", "price > 3 AND pri")
    offered = "document.querySelector('#where-names option').value"
    assert page.evaluate(offered) == "price > 3 AND price "
    page.reload()
    page.wait_for_selector("#results .values")


def test_a_search_that_nothing_fits_says_so(open_page: Callable[..., Any], address: str) -> None:
    """The server's word decides; here it is changed on its way."""
    page = open_page(address)

    def unfit(route: Any) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, "fits": False})

    page.route("**/search?*", unfit)
    search(page)
    assert page.inner_text("#search-trouble").startswith("Nothing fits.")
    assert "where chance gives 50.0" in page.inner_text("#search-trouble").replace("\u00a0", " ")


def test_a_result_opens_the_map_of_the_words_and_arrow_keys_read_it(
    open_page: Callable[..., Any], address: str, shots: Path
) -> None:
    page = open_page(f"{address}/#/?text={WORDS.replace(' ', '+')}")
    page.locator("#results a").first.click()
    page.wait_for_selector("#reading:not([hidden])")
    assert page.input_value("#look-words") == WORDS
    lowest = page.inner_text("#cell")
    assert re.fullmatch(r"Lowest in row \d, column \d", lowest)
    painted = "document.getElementById('map').getContext('2d').getImageData(0, 0, 40, 40).data"
    assert page.evaluate(f"[...{painted}].some((value, k) => k % 4 === 3 && value > 0)")
    shoot(page, shots / "explain.png")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#cell").startswith(lowest.removeprefix("Lowest in ") + ": ")
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    assert page.inner_text("#cell").startswith("row 1, column 1: ")
    page.fill("#look-words", "a blue star")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('map').ariaLabel.includes('a blue star')")
    page.locator("#captions button").first.click()
    page.wait_for_selector("#captions [aria-pressed=true]")
    page.click("#back")
    page.wait_for_selector("#results .meta")
    assert page.input_value("#words") == WORDS


def test_the_record_of_the_run_is_shown(
    open_page: Callable[..., Any], address: str, shots: Path
) -> None:
    page = open_page(f"{address}/#/run")
    page.wait_for_selector(".tile")
    assert page.inner_text("#run .verdict >> nth=0")
    assert page.locator("figure.chart svg").count() >= 5
    shoot(page, shots / "health.png", full_page=True)


def test_on_a_phone_nothing_is_wider_than_the_screen(
    open_page: Callable[..., Any], address: str, shots: Path
) -> None:
    phone = {
        "viewport": {"width": 360, "height": 740},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
        "color_scheme": "dark",
    }
    page = open_page(address, **phone)
    too_wide = "document.documentElement.scrollWidth > innerWidth"
    page.wait_for_selector("#mosaic img")
    assert not page.evaluate(too_wide)
    search(page)
    assert not page.evaluate(too_wide)
    shoot(page, shots / "phone-search.png")
    page.locator("#results a").first.tap()
    page.wait_for_selector("#reading:not([hidden])")
    assert not page.evaluate(too_wide)
    shoot(page, shots / "phone-explain.png", full_page=True)
    page.goto(f"{address}/#/run")
    page.wait_for_selector(".tile")
    assert not page.evaluate(too_wide)


DROP = """([bytes, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "own.png", { type: "image/png" }));
  const event = type === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
    : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_an_image_that_is_given_is_searched_by(
    way: str, open_page: Callable[..., Any], address: str, image: bytes
) -> None:
    page = open_page(address)
    page.wait_for_selector("#mosaic img")
    if way == "choose":
        with page.expect_file_chooser() as chooser:
            page.click("#choose")
        chooser.value.set_files({"name": "own.png", "mimeType": "image/png", "buffer": image})
    else:
        page.evaluate(DROP, [list(image), way])
    page.wait_for_selector("#results .meta")
    assert page.inner_text("#asked-name") == "own.png"
    assert "most alike first" in page.inner_text("#search-status")
    assert page.eval_on_selector("#asked-thumb", "shown => shown.naturalWidth") > 0
    page.select_option("#by", "captions")
    until(page, "document.querySelector('#search-status').innerText.includes('for the image')")
    page.click("#drop-image")
    page.wait_for_selector("#start:not([hidden])")


def test_an_image_of_one_s_own_is_explained(
    open_page: Callable[..., Any], address: str, image: bytes
) -> None:
    page = open_page(f"{address}/#/look")
    page.wait_for_selector("#look-empty:not([hidden])")
    page.evaluate(DROP, [list(image), "drop"])
    page.fill("#look-words", WORDS)
    page.click("#look-ask button")
    page.wait_for_selector("#reading:not([hidden])")
    page.click("#similar")
    page.wait_for_selector("#results .meta")


def test_a_refusal_is_said_in_the_server_s_words(
    open_page: Callable[..., Any], address: str
) -> None:
    page = open_page(address, expect="400|422")
    page.click("#filter summary")
    page.fill("#where", "nonsense = 1")
    page.fill("#words", WORDS)
    page.wait_for_selector("#search-trouble [role=alert]")
    assert "nonsense" in page.inner_text("#search-trouble")
    page.fill("#where", "split = 'test'")
    page.wait_for_selector("#results .meta")
    assert page.locator("#results li").count() == 12
    assert page.locator("[role=alert]").count() == 0
    page.fill("#where", "split = 'none'")
    until(page, "document.getElementById('search-status').textContent.includes('No item meets')")


def test_a_server_with_a_key_asks_for_it_until_it_is_right(
    open_page: Callable[..., Any], at: Callable[..., str]
) -> None:
    page = open_page(at(key=KEY), expect="401")
    for value in ("wrong", KEY):
        page.wait_for_selector("dialog[open]")
        page.fill("#key-value", value)
        page.click("#key-form button")
    page.wait_for_selector("#mosaic img[src^='blob:']")
    search(page)
    until(page, "document.querySelector('#results img').naturalWidth > 0")


def test_without_a_store_one_looks_into_own_images(
    open_page: Callable[..., Any], at: Callable[..., str]
) -> None:
    page = open_page(at(store=False))
    page.wait_for_selector("#look-empty:not([hidden])")
    page.click("nav [data-view=search]")
    page.wait_for_selector("#search-title:has-text('No store is served')")


def test_everything_is_reached_and_seen_by_keyboard(
    open_page: Callable[..., Any], address: str
) -> None:
    """Whatever Tab reaches has a name and, as a browser shows it, an outline of its own."""
    page = open_page(f"{address}/#/?text=a+ball")
    page.wait_for_selector("#results .meta")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "words"
    page.evaluate("document.activeElement.blur()")
    seen = """() => {
      const at = document.activeElement, style = getComputedStyle(at);
      const around = getComputedStyle(at.closest(".field") ?? at);
      const name = at.ariaLabel || at.textContent.trim() || at.labels?.[0]?.textContent;
      const outlined = style.outlineStyle !== "none" || around.outlineStyle !== "none";
      return [at.tagName, Boolean(name), outlined];
    }"""
    tags = []
    for _ in range(12):
        page.keyboard.press("Tab")
        tag, named, outlined = page.evaluate(seen)
        assert named, tag
        assert outlined, tag
        tags.append(tag)
    assert {"A", "BUTTON", "SUMMARY"} <= set(tags)


def test_the_endpoints_are_described_without_another_server(
    open_page: Callable[..., Any], address: str, shots: Path
) -> None:
    page = open_page(f"{address}/docs")
    page.wait_for_selector(".endpoint")
    assert page.locator(".endpoint").count() == 11
    page.locator(".endpoint summary").first.click()
    assert "curl" in page.inner_text(".endpoint[open] pre")
    shoot(page, shots / "docs.png")
