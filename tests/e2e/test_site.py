"""The documentation as a site: built without a warning, whole, and without a network at view time."""

import re
from pathlib import Path

import pytest

from ..forked import run as forked

REPOSITORY = Path(__file__).resolve().parents[2]
FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?https?://", re.IGNORECASE)


def build(folder):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=folder, strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = forked(build, str(folder), timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_verb_model_data_set_and_recipe_has_its_place(site):
    from marquee.cli.main import VERBS
    from marquee.config.folders import options

    assert {file.stem for file in (site / "verbs").glob("*.html")} == set(VERBS)
    pages = {file.relative_to(site / "models").with_suffix("").as_posix() for file in (site / "models").rglob("*.html")}
    assert pages == set(options("model"))
    for group, page in (("data", "data"), ("split", "splits"), ("task", "tasks"), ("experiment", "recipes")):
        text = (site / "catalogue" / f"{page}.html").read_text()
        assert [name for name in options(group) if f">{name}<" not in text] == []
    ease = (site / "models" / "linear" / "ease.html").read_text()
    assert "Embarrassingly shallow autoencoders" in ease and "ridge penalty" in ease and "ml100k_ease" in ease
    assert "Recommender" in (site / "api.html").read_text()


def test_a_page_fetches_nothing_from_elsewhere(site):
    wrong = [file.name for file in site.rglob("*.html") if FETCHED.search(file.read_text())]
    assert wrong == []
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert not re.search(r"url\(\s*['\"]?https?://", styles) and "@import" not in styles


def test_what_is_written_by_hand_stands_in_the_navigation_and_the_readme_leads_to_it(site):
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for file in (REPOSITORY / "docs").glob("*.md"):
        assert (site / f"{file.stem}.html").is_file()
        assert f"docs/{file.name}" in readme, f"README.md does not lead to docs/{file.name}"


def test_pages_are_searched_from_the_disk(site):
    from .test_report_in_browser import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page, asked = browser.new_page(), []
            page.on("request", lambda request: asked.append(request.url))
            page.goto((site / "models" / "linear" / "ease.html").as_uri())
            page.keyboard.press("/")
            page.keyboard.type("embarrassingly shallow")
            page.locator(".md-search-result__item").first.wait_for(timeout=60_000)
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        finally:
            browser.close()
