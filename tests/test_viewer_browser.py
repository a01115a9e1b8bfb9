"""The viewer in a real browser: headless Chromium of the system, driven through its DevTools protocol.

Skipped where there is no Chromium (`apt install chromium`) or no `playwright`.
"""

from __future__ import annotations

import os
import shutil
import time

import pytest
from support.looking import make_converted

from sa1b_hf.places import find_place
from sa1b_hf.testing import make_shard
from sa1b_hf.viewer import Viewer, ViewerServer

BROWSER = os.environ.get("SA1B_HF_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")]
sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        # containers run as root, where Chromium's own sandbox cannot
        chromium = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    make_shard(folder / "sa_000000.tar", first_id=1, num_images=70, order="sorted")
    with ViewerServer(Viewer(find_place(str(folder)))) as running:
        yield running


@pytest.fixture
def page(browser, server):
    """The grid, and in the end no error in the console and no request to anywhere else."""
    yield from opened(browser, server)


def opened(browser, server):
    context = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if is_elsewhere(request.url, server) else None)
    page.problems = problems
    page.goto(server.url)
    page.wait_for_selector(".tile img[src]")
    yield page
    context.close()
    assert problems == []


def is_elsewhere(url: str, server: ViewerServer) -> bool:
    return not url.startswith((f"http://127.0.0.1:{server.port}/", "data:", "blob:"))


def open_image(page, image_id: int) -> None:
    page.evaluate(f"location.hash = 'image_id={image_id}'")
    ready(page)


def until(page, expression: str) -> None:
    """Wait for an expression to hold, by asking: the page's policy lets no text be evaluated within it."""
    deadline = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def ready(page, query: str = "") -> None:
    until(page, "!document.getElementById('image-view').hidden")
    until(page, f"(document.getElementById('stage').dataset.ready || '').endsWith('?{query}')")


def slide(page, name: str, value: float) -> None:
    page.locator(f"[data-name={name}] input").fill(str(value))


def painted(page) -> int:
    """Pixels of the overlay that show anything."""
    return page.evaluate(
        """() => { const canvas = document.getElementById("overlay");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0; for (let i = 3; i < data.length; i += 4) if (data[i]) count++; return count; }"""
    )


def test_the_grid(page):
    """Tiles with thumbnails come, more of them when one scrolls, and the token is not in the address."""
    assert "token" not in page.url
    until(page, "document.querySelector('.tile img').naturalWidth > 0")
    page.mouse.move(700, 400)
    page.mouse.wheel(0, 20_000)
    until(page, "document.querySelectorAll('.tile').length === 70")
    assert page.inner_text("#status").startswith("70 of 70 images")


def test_filters_act_at_once(page):
    """Moving a slider changes counts and address before any answer could come, and hides images without masks."""
    until(page, "document.querySelectorAll('.tile').length >= 60")
    page.route("**/*", lambda route: None)  # the server falls silent
    before = page.inner_text("#status")
    slide(page, "min_predicted_iou", 1.0)
    after = page.inner_text("#status")
    assert after != before
    assert page.url.endswith("#min_predicted_iou=1")
    hidden = page.locator(".tile[hidden]").count()
    shown = page.locator(".tile:not([hidden])").count()
    assert hidden > 0
    assert after.startswith(f"{shown} of ")
    assert "of" in page.locator(".tile:not([hidden]) .caption").first.inner_text()
    page.keyboard.press("Escape")
    page.click("#reset")
    assert page.inner_text("#status") == before
    page.unroute_all(behavior="ignoreErrors")


def test_masks_shine_when_pointed_at(page, server):
    """Hovering over a mask tells its id and scores, which are those of the row, and marks it in the list."""
    open_image(page, 3)
    row = server._viewer.store.summary(2)
    assert page.locator("#mask-list button").count() == len(row.ids)
    number = int(row.areas.argmin())
    box = page.locator("#overlay").bounding_box()
    x, y = page.evaluate(
        """number => new Promise(async done => {
        const map = new Image(); map.src = "/ids/2.png"; await map.decode();
        const canvas = new OffscreenCanvas(map.width, map.height), context = canvas.getContext("2d");
        context.drawImage(map, 0, 0);
        const data = context.getImageData(0, 0, map.width, map.height).data;
        for (let i = 0; i < data.length; i += 4) if (data[i] === number + 1)
          return done([(i / 4 % map.width + 0.5) / map.width, (Math.floor(i / 4 / map.width) + 0.5) / map.height]);
        })""",
        number,
    )
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    tip = page.inner_text("#tip")
    assert str(row.ids[number]) in tip
    assert f"iou {row.predicted_iou[number]:.3f}" in tip
    assert page.locator("#mask-list button.on").get_attribute("data-mask") == str(number + 1)
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()


def test_an_image_filtered(page):
    """Hidden masks go, the exact map follows, and switches hide everything."""
    open_image(page, 5)
    full = painted(page)
    assert full > 0
    assert page.locator("#mask-list button").count() > 0
    slide(page, "min_stability_score", 0.98)
    ready(page, "min_stability_score=0.98")
    assert painted(page) < full
    page.keyboard.press("m")
    assert painted(page) == 0
    page.keyboard.press("b")
    boxes = painted(page)
    page.keyboard.press("p")
    assert 0 < boxes < painted(page)
    page.keyboard.press("r")
    ready(page)
    for key in "mbp":
        page.keyboard.press(key)
    assert painted(page) == full


def test_keys(page):
    """Arrows move in the grid and between images, Enter opens, Escape goes back to the same tile."""
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    ready(page)
    assert page.inner_text("#title") == "sa_2.jpg"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#title") == "sa_3.jpg"
    assert page.url.endswith("#image_id=3")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#title") == "sa_1.jpg"
    assert page.inner_text("#toast") == "This is the first image."
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent").startswith("sa_1.jpg")
    page.keyboard.press("?")
    assert page.locator("#help-dialog").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#help-dialog").is_hidden()


def test_zoom(page):
    """Keys and the wheel zoom, and 0 fits the image again."""
    open_image(page, 1)
    width = page.locator("#overlay").bounding_box()["width"]
    page.keyboard.press("+")
    assert page.locator("#overlay").bounding_box()["width"] == pytest.approx(width * 1.25)
    page.keyboard.press("0")
    assert page.locator("#overlay").bounding_box()["width"] == pytest.approx(width)


def test_deep_links(page, server):
    """An address opens its image with its filters, also one far down, and going back goes back."""
    page.goto(f"http://127.0.0.1:{server.port}/#image_id=69&min_predicted_iou=0.95&min_area=40")
    page.reload()
    ready(page, "min_predicted_iou=0.95&min_area=40")
    assert page.inner_text("#title") == "sa_69.jpg"
    assert page.inner_text("[data-name=min_predicted_iou] output") == "≥ 0.95"
    assert page.inner_text("[data-name=min_area] output") == "≥ 40"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#title") == "sa_70.jpg"
    page.go_back()
    until(page, "document.getElementById('title').textContent === 'sa_69.jpg'")
    page.goto(f"http://127.0.0.1:{server.port}/#image_id=123456")
    until(page, "document.getElementById('toast').textContent.includes('not among the 70 images')")
    assert len(page.problems) == 1  # the 404 that was asked for
    page.problems.clear()


def test_code_and_export(page, tmp_path):
    """The code is copied as it is shown, and the export has the ids that load_dataset takes."""
    until(page, "document.querySelectorAll('.tile').length >= 60")
    slide(page, "min_predicted_iou", 1.0)
    page.keyboard.press("c")
    until(page, "document.getElementById('toast').textContent === 'Copied.'")
    text = page.inner_text("#code")
    assert "min_predicted_iou=1.0" in text
    assert page.evaluate("navigator.clipboard.readText()").strip() == text.strip()
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.keyboard.press("e")
    download.value.save_as(tmp_path / "selection.txt")
    ids = (tmp_path / "selection.txt").read_text().split()
    assert page.inner_text("#status").startswith(f"{len(ids)} of ")


def test_theme(page):
    """Dark follows the system, and a key turns it over."""
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    page.keyboard.press("t")
    assert (page.evaluate(ground), dark == light) == (light, False)


def test_everything_has_a_name(page):
    """Each control can be reached by keyboard and says what it is to a screen reader."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, a, canvas:not([aria-hidden])")].filter(one =>
        !(one.textContent.trim() || one.getAttribute("aria-label") || one.title || one.closest("label")))
        .map(one => one.outerHTML)"""
    )
    assert nameless == []


def test_labels(browser, tmp_path):
    """Labels are listed with their counts; choosing one leaves its masks, and tips name it."""
    with ViewerServer(Viewer(find_place(str(make_converted(tmp_path))))) as server:
        pages = opened(browser, server)
        page = next(pages)
        names = page.locator("#label-list label").all_inner_texts()
        assert {name.rsplit(maxsplit=1)[0].strip() for name in names} >= {"thing", "stuff"}
        page.locator("#label-list label", has_text="stuff").click()
        assert page.url.endswith("#labels=1")
        open_image_with = page.locator(".tile:not([hidden])").first
        open_image_with.click()
        ready(page, "labels=1")
        assert {text.split("\n")[0] for text in page.locator("#mask-list button").all_inner_texts()} == {"stuff"}
        next(pages, None)


def test_stranger(browser, server):
    """A browser without the token sees nothing, and another site cannot load the images."""
    context = browser.new_context()
    page = context.new_page()
    response = page.goto(f"http://127.0.0.1:{server.port}/")
    assert response.status == 403
    page.goto(server.url)
    page.goto("data:text/html,<title>elsewhere</title>")
    loaded = page.evaluate(
        f"""() => new Promise(done => {{ const one = new Image(); one.onload = () => done(true);
        one.onerror = () => done(false); one.src = "http://127.0.0.1:{server.port}/image/0.jpg"; }})"""
    )
    assert loaded is False
    context.close()
