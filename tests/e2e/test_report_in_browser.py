"""The page in a real browser: nothing is fetched or complained of, tables sort and filter, figures are drawn."""

import shutil

import numpy as np
import pytest

from marquee.compare.analysis import compare
from marquee.compare.report.evidence import gather
from marquee.compare.report.page import page as page_of

from ..finished_runs import write_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "</script><script>window.hurt = 1</script><img src=http://localhost:9/x onerror='window.hurt = 2'>"
MODELS = ["mf/bpr", "linear/ease", "neighbours/item_knn", "rnn/gru4rec"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of two data sets with four models, one of them in three configurations, and a run that failed."""
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(3)
    for data in ("films", "books"):
        for place, model in enumerate(MODELS):
            for dim in (8, 16, 32) if model == "mf/bpr" else (8,):
                for seed in (1, 2):
                    values = np.clip(generator.random(60) * 0.2 + 0.15 * place + dim / 400, 0, 1)
                    run = write_run(folder, model, seed, values, data=data, settings={"dim": dim},
                                    parameters=10 ** (place + 2), validation=0.1 * place + dim / 400,
                                    durations={"fit": 2.0 * 4**place})  # fmt: skip
                    lines = [f"{epoch},{1 / (epoch + 1)},{0.1 * epoch}" for epoch in range(4)]
                    text = "\n".join(["epoch,train/loss,validation/ndcg@10", *lines]) + "\n"
                    (run.folder / "metrics.csv").write_text(text)
    write_run(folder, "mf/bpr", 9, [0.1], data="films", status="failed", error=HOSTILE)
    write_run(folder, HOSTILE, 1, generator.random(60), data="films", validation=0.01)
    file = folder / "report.html"
    file.write_text(page_of(compare([folder]), gather([folder]), [HOSTILE], folder), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page, what its console said, and what it asked the network for besides itself."""

    def __init__(self, chromium, report, **context):
        self.context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())

    def draw_all(self):
        for chart in self.page.query_selector_all(".chart"):
            chart.scroll_into_view_if_needed()
            chart.wait_for_selector("svg .mark-group, svg g[role='graphics-object']", state="attached")
        self.page.wait_for_function("!document.querySelector('.chart:not(.drawn)')")

    def column(self, number, table="table-1-1"):
        """The texts of a column, of the rows that are shown."""
        script = "(rows, number) => rows.filter(row => !row.hidden).map(row => row.cells[number].textContent)"
        return self.page.locator(f"#{table} tbody tr").evaluate_all(script, number)


@pytest.fixture
def opened(chromium, report):
    found = []

    def open_page(**context):
        found.append(Opened(chromium, report, **context))
        return found[-1]

    yield open_page
    for one in found:
        one.context.close()


def test_every_figure_is_drawn_without_a_complaint_or_a_request(opened, report):
    one = opened()
    assert one.page.locator(".chart").count() > 8
    assert one.page.locator(".chart svg").count() < one.page.locator(".chart").count()  # only what is in view
    one.draw_all()
    assert (one.said, one.asked) == ([], [report.as_uri()])
    marks = "charts => charts.map(chart => chart.querySelectorAll('svg path, svg line, svg text').length)"
    assert min(one.page.locator(".chart").evaluate_all(marks)) >= 8


def test_hostile_names_and_messages_are_shown_as_text(opened):
    one = opened()
    one.draw_all()
    assert one.page.evaluate("window.hurt") is None
    assert one.page.locator("img").count() == 0
    assert one.page.locator("td.message", has_text="window.hurt = 1").count() == 1
    assert HOSTILE in one.column(0, "table-1-1")


def test_a_click_on_a_heading_sorts_and_a_second_turns_it(opened):
    one = opened()
    heading = one.page.locator("#table-1-1 thead th", has_text="Training time")
    assert one.page.locator("#table-1-1 thead th").nth(1).get_attribute("aria-sort") == "descending"
    number = heading.evaluate("cell => cell.cellIndex")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [value for value in one.column(number) if value] == ["2", "2", "2", "8", "10", "32", "128"]
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    # Baselines and the oracle have no time: they stay, at the end.
    assert one.column(number) == ["128", "32", "10", "8", "2", "2", "2", "", "", ""]
    assert one.page.locator("#table-1-1 [aria-sort=descending]").count() == 1


def test_the_keyboard_alone_skips_sorts_and_changes_the_theme(opened):
    one = opened(color_scheme="light")
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("document.activeElement.className") == "skip"
    assert one.page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("document.activeElement.id") == "theme"
    assert one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    one.page.keyboard.press("Enter")
    assert one.page.evaluate("document.documentElement.dataset.theme") == "dark"
    one.page.locator("#table-1-1 thead button").first.focus()
    one.page.keyboard.press("Space")
    assert one.column(0)[0] == HOSTILE  # "<" comes before every letter
    one.page.keyboard.press("Space")
    assert one.column(0)[0].startswith("rnn/gru4rec")


def test_filters_keep_rows_and_always_the_baselines(opened):
    one = opened()
    one.page.fill("#table-1-1-text", "bpr dim=16")
    assert one.column(0) == ["mf/bpr dim=16", "baseline/popular", "baseline/random", "oracle (ceiling)"]
    assert one.page.text_content("#table-1-1-shown") == "1 of 7 configurations shown"
    one.page.fill("#table-1-1-text", "")
    one.page.select_option("#table-1-1-family", "mf/bpr")
    assert one.page.text_content("#table-1-1-shown") == "3 of 7 configurations shown"
    one.page.fill("#table-1-1-text", "nothing of the kind")
    assert len(one.column(0)) == 3


def test_a_choice_of_cost_draws_another_figure(opened):
    one = opened()
    choice = one.page.locator("select[data-choice]", has_text="Parameters").first
    choice.scroll_into_view_if_needed()
    chart = one.page.locator(f"#figure-{choice.get_attribute('data-choice')}")
    chart.locator("svg text", has_text="Training time (s)").first.wait_for()
    choice.select_option(label="Parameters")
    chart.locator("svg text", has_text="Parameters").first.wait_for()
    assert chart.locator("svg").count() == 1


def test_dark_is_the_systems_choice_or_the_readers(opened):
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    assert light.page.evaluate(background) == "rgb(255, 255, 255)"
    assert dark.page.evaluate(background) == "rgb(20, 23, 27)"
    assert dark.page.get_attribute("#theme", "aria-pressed") == "true"
    dark.page.click("#theme")
    assert dark.page.evaluate(background) == "rgb(255, 255, 255)"
    light.page.click("#theme")
    assert light.page.evaluate(background) == "rgb(20, 23, 27)"
    light.draw_all()
    ink = light.page.evaluate("getComputedStyle(document.querySelector('.chart svg text')).fill")
    assert ink == "rgb(231, 234, 238)"  # figures follow
    assert (light.said, dark.said) == ([], [])


def test_text_has_enough_contrast_in_both_themes(opened):
    script = """elements => elements.map(element => {
        const channels = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
        let behind = element;
        while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
        return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(channels);
    })"""
    texts = "p, th, td, .note, .mark, a, figcaption, .warning, .count, .shown"
    for scheme in ("light", "dark"):
        for ink, paper in opened(color_scheme=scheme).page.locator(texts).evaluate_all(script):
            assert contrast(ink, paper) >= 4.5, (scheme, ink, paper)  # WCAG 2.2, 1.4.3


def contrast(one, other):
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""

    def share(channel):
        return channel / 3294.6 if channel <= 10.31 else ((channel / 255 + 0.055) / 1.055) ** 2.4

    light = sorted(0.2126 * share(r) + 0.7152 * share(g) + 0.0722 * share(b) for r, g, b in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


def test_at_320_pixels_only_tables_and_figures_scroll_sideways(opened):
    one = opened(viewport={"width": 320, "height": 640})
    one.draw_all()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 320
    assert one.page.evaluate("document.querySelector('#table-1-1').scrollWidth") > 320
    for details in one.page.query_selector_all("details:not([open]) summary"):
        details.click()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 320


def test_paper_shows_whole_tables_and_all_figures(opened):
    one = opened()
    one.page.evaluate("window.print = () => { window.printed = document.querySelectorAll('.chart.drawn').length }")
    one.page.click("#print")
    one.page.wait_for_function("window.printed !== undefined")
    assert one.page.evaluate("window.printed") == one.page.locator(".chart").count()
    one.page.emulate_media(media="print")
    assert not one.page.locator("#theme").is_visible()
    assert one.page.locator("table.scores").first.is_visible()


def test_links_lead_to_the_runs_folders(opened, report):
    one = opened()
    links = one.page.locator("main a[href]").evaluate_all("links => links.map(link => link.href)")
    links = [link for link in links if "#" not in link]
    assert links
    assert all(link.startswith(report.parent.as_uri() + "/runs/") for link in links)
