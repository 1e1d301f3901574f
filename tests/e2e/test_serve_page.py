"""The page of a service in a real browser: titles, reviews and posters are tried by hand, and nothing is fetched."""

import io
import re
import shutil
import threading
import time

import numpy as np
import pytest
import uvicorn
from PIL import Image

import marquee as package
from marquee.serving.app import build
from marquee.serving.server import Server, bound
from marquee.serving.service import Service
from marquee.serving.settings import Settings

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(trained, tmp_path_factory):
    """Where a run of a kind is served, in a thread; `token` asks for one."""
    servers, found = [], {}

    def serving(kind, token=None):
        if (kind, token) not in found:
            settings = Settings(str(trained[kind]), tmp_path_factory.getbasetemp(), port=0, token=token)
            listening, service = bound(settings.host, 0), Service(settings)
            server = Server(uvicorn.Config(build(service), log_level="warning", lifespan="on"), service)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            servers.append((server, thread, listening))
            while not service.ready:
                assert thread.is_alive() and not service.served.wrong
                time.sleep(0.01)
            found[kind, token] = f"http://127.0.0.1:{listening.getsockname()[1]}"
        return found[kind, token]

    yield serving
    for server, thread, listening in servers:
        server.should_exit = True
        thread.join(10)
        listening.close()


@pytest.fixture
def opened(chromium, address):
    """Opens the page of a kind of run; what it said to its console and what it asked for are kept."""
    contexts = []

    def open_page(kind, token=None, **context):
        contexts.append(chromium.new_context(**{"viewport": {"width": 1000, "height": 900}, **context}))
        page = contexts[-1].new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.home = address(kind, token)
        page.goto(page.home)
        return page

    yield open_page
    for one in contexts:
        one.close()


def listed(page):
    return [text.split("because")[0] for text in page.locator("#items li").all_text_contents()]


def test_titles_are_chosen_by_the_keyboard_and_recommendations_have_reasons(opened, trained):
    predictor = package.load(trained["ease"])
    titles = predictor.items["title"].tolist()
    page = opened("ease")
    page.get_by_label("Type a title").focus()
    page.keyboard.type(titles[3].lower())
    page.get_by_role("option", name=titles[3], exact=True).wait_for()
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#title", "aria-activedescendant") == "option-0"
    page.keyboard.press("Enter")
    page.locator("#items li").first.wait_for()
    alone = predictor.recommend(histories=[[titles[3]]])["title"].tolist()
    assert listed(page) == alone
    assert f"because of {titles[3]}" in page.locator("#items li").first.text_content()
    assert page.locator("#title").evaluate("own => own === document.activeElement") and page.input_value("#title") == ""

    page.keyboard.press("Tab")  # to the title that was taken
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Remove {titles[3]}"
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelector('#items li')")
    assert page.said == [] and all(url.startswith(page.home) for url in page.asked)


def test_an_unknown_user_is_told_and_the_suggestions_can_be_clicked(opened, trained):
    page = opened("bpr")
    assert not page.locator("#by-title").is_visible()  # it reads no histories
    page.fill("#user", "nobody")
    page.click("#by-user button")
    trouble = page.locator("#trouble")
    trouble.get_by_role("button", name="2", exact=True).click()
    page.locator("#items li").first.wait_for()
    assert listed(page) == package.load(trained["bpr"]).recommend(users=[2])["title"].tolist()
    assert not trouble.is_visible()


def test_a_pasted_review_gets_its_label_with_probabilities_and_is_shown_as_text(opened, trained):
    review = "a slow start, but the last act is wonderful <img src=x onerror='window.hurt = 1'>"
    page = opened("lstm")
    page.fill("#text", review)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".label").wait_for()
    (row,) = package.load(trained["lstm"]).predict([review]).to_dict("records")
    assert page.text_content(".label") == row["label"]
    shown = page.locator(".chances span").all_text_contents()
    assert f"{row['p(' + row['label'] + ')']:.3f}" == shown[1]
    assert page.evaluate("window.hurt") is None and page.locator("img").is_visible() is False


def test_a_dropped_poster_gets_its_label_and_a_broken_one_a_message(opened, trained):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(file, "PNG")
    page = opened("cnn")
    script = """bytes => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "poster.png", { type: "image/png" }));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
    }"""
    page.locator("#drop").wait_for()
    page.evaluate(script, list(file.getvalue()))
    page.locator(".label").wait_for()
    assert page.text_content(".label") == package.load(trained["cnn"]).predict([file.getvalue()])["label"][0]
    page.wait_for_function("document.getElementById('picture').naturalWidth === 20")  # the policy lets it be seen
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    page.get_by_text(re.compile("The image is none of JPEG")).wait_for()
    assert page.locator(".label").count() == 0


def test_with_a_token_the_page_asks_for_it(opened):
    page = opened("ease", token="open sesame")
    page.get_by_label("This service asks for its token").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("That is not the token.").wait_for()
    page.fill("#token", "open sesame")
    page.keyboard.press("Enter")
    page.locator("#title").wait_for()
    assert not page.locator("#door").is_visible()


@pytest.mark.parametrize("kind", ["ease", "lstm", "cnn"])
def test_at_320_pixels_nothing_scrolls_sideways_and_dark_is_the_systems_choice(opened, kind):
    background = "getComputedStyle(document.body).backgroundColor"
    for scheme, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")):
        page = opened(kind, viewport={"width": 320, "height": 640}, color_scheme=scheme)
        page.locator("section:visible").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.evaluate(background) == colour
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_endpoints_are_shown_without_a_network(opened):
    page = opened("ease")
    page.goto(f"{page.home}/docs")
    page.get_by_role("heading", name="POST /v1/recommend").wait_for()
    page.get_by_text("which titles of the history speak for each item").wait_for()
    assert page.said == [] and all(url.startswith(page.home) for url in page.asked)
