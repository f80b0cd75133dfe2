"""The page in a browser, from disk: tooltips, buttons, brushes, keys, colours and widths."""

import re
import shutil

import pytest
from report.made_up import points, task_files

from vbon.figures.style import method_styles
from vbon.report.page import render
from vbon.report.sources import tasks_of
from vbon.report.style import DARK

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIN_RATE, REWARD = ("sentiment-win_rate", "sentiment-reward")
POINT = "g.mark-symbol path"

pytestmark = [
    pytest.mark.docs,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = folder / "index.html"
    path.write_text(render(tasks_of(task_files(folder)), ["results/sentiment/tables/table2.csv"]))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, address):
    """Open the page with a size and colours; it may log or fetch nothing."""
    contexts, messages = [], []

    def open_page(width=1280, height=900, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on(
            "request", lambda request: messages.extend([] if is_local(request) else [request.url])
        )
        page.goto(address)
        page.evaluate("document.querySelector('#summary details').open = true")  # mean reward
        for name in (WIN_RATE, REWARD):
            chart(page, name).scroll_into_view_if_needed()
            page.wait_for_selector(f'[data-chart="{name}"][data-drawn]')
        chart(page, WIN_RATE).scroll_into_view_if_needed()
        return page

    def is_local(request):
        return request.url == address or request.url.startswith("data:")

    yield open_page
    for context in contexts:
        context.close()
    assert not messages


def chart(page, name):
    return page.locator(f'[data-chart="{name}"]')


def counts(method=None):
    """Number of drawn runs, of one method or of all."""
    table = points()
    fine = table[table["status"] == "ok"]
    return int((fine["method"] == method).sum()) if method else len(fine)


def opacities(page, name):
    """Opacities of the runs in a chart, in the order of the table."""
    script = "paths => paths.map(path => Number(path.getAttribute('opacity') ?? 1))"
    return chart(page, name).locator(POINT).evaluate_all(script)


def drag(page, name, start, end):
    """Drag between two positions in a chart, as fractions of its width and height."""
    chart(page, name).scroll_into_view_if_needed()
    box = chart(page, name).locator("svg").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


def test_hovering_over_a_point_shows_its_run(opened):
    page = opened()
    places = chart(page, WIN_RATE).locator(POINT)
    assert places.count() == counts()
    boxes = places.evaluate_all(
        "paths => paths.map(path => path.getBoundingClientRect()).map(b => [b.x + b.width / 2,"
        " b.y + b.height / 2])"
    )
    page.mouse.move(*boxes[-1])  # the last one is on top of all others
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    words = tooltip.inner_text()
    table = points()
    row = table[table["status"] == "ok"].iloc[-1]
    assert method_styles([row["method"]])[row["method"]].label in words
    for part in (row["setting"], f"{row['kl']:.3f} ± {row['kl_se']:.3f} nats", "</script><b"):
        assert part in words
    assert re.search(r"Seed\s+\d", words)
    assert page.locator("#evil").count() == 0


def test_buttons_and_reset_drive_both_charts(opened):
    page = opened()
    total, own = counts(), counts("ppo")
    button = page.get_by_role("button", name="PPO")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    for name in (WIN_RATE, REWARD):
        sync_api.expect(chart(page, name).locator(POINT)).to_have_count(total - own)
    page.get_by_role("button", name="Reset").click()
    assert button.get_attribute("aria-pressed") == "true"
    for name in (WIN_RATE, REWARD):
        sync_api.expect(chart(page, name).locator(POINT)).to_have_count(total)


def test_a_brush_in_one_chart_marks_the_same_runs_in_the_other(opened):
    page = opened()
    assert len(set(opacities(page, REWARD))) == 1
    status = page.locator("#summary .status")
    drag(page, WIN_RATE, (0.5, 0.02), (0.98, 0.5))
    sync_api.expect(status).to_have_text(re.compile(r"\d+ runs marked"))
    marked = int(status.inner_text().split()[0])
    assert 0 < marked < counts()
    sync_api.expect(status).not_to_have_text("")
    strong = [[value > 0.5 for value in opacities(page, name)] for name in (WIN_RATE, REWARD)]
    assert sum(strong[0]) == marked
    assert strong[0] == strong[1]
    drag(page, REWARD, (0.15, 0.5), (0.4, 0.9))  # replaces the brush in the other chart
    sync_api.expect(status).to_have_text(re.compile(r"\d+ runs marked"))
    other = [value > 0.5 for value in opacities(page, WIN_RATE)]
    assert other != strong[0]
    page.get_by_role("button", name="Reset").click()
    sync_api.expect(status).to_have_text("")
    for name in (WIN_RATE, REWARD):
        assert min(opacities(page, name)) > 0.5
        assert chart(page, name).locator("g.brush_brush path").count() == 0 or not chart(
            page, name
        ).locator("g.brush_brush path").first.evaluate("path => path.getBBox().width > 0.5")


def test_keys_reach_and_press_everything(opened):
    page = opened()
    page.evaluate("window.scrollTo(0, 0)")
    seen = []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # visible with the focus
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.dataset.method ?? document.activeElement.id")
        )
        if seen[-1] == "ppo":
            break
    assert "theme" in seen
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    for key, pressed in (("Enter", "false"), ("Space", "true")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == pressed
    summary = page.get_by_text("Table of points", exact=True)
    summary.focus()
    page.keyboard.press("Enter")
    rows = page.locator("#summary details tbody tr")
    assert rows.count() == counts()
    assert rows.first.is_visible()


def test_a_dark_scheme_changes_page_and_charts(opened):
    looks = []
    for scheme in ("light", "dark"):
        page = opened(scheme=scheme)
        looks.append(_look(page))
    assert looks[0][0] != looks[1][0]
    assert "#0072b2" in looks[0][1]  # vBoN's
    assert DARK["#0072b2"] in looks[1][1]
    button = page.locator("#theme")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()  # the button overrides the system
    page.wait_for_selector(f'[data-chart="{WIN_RATE}"][data-drawn="light"]')
    assert _look(page) == looks[0]


def _look(page):
    """The page's background, and the colours of one chart's points."""
    fills = "paths => paths.map(path => path.getAttribute('fill'))"
    return (
        page.evaluate("getComputedStyle(document.body).backgroundColor"),
        chart(page, WIN_RATE).locator(POINT).evaluate_all(fills),
    )


def test_every_chart_is_drawn_and_a_phone_shows_it_without_scrolling_sideways(opened):
    page = opened(width=390, height=844)
    for index in range(page.locator(".chart").count()):
        place = page.locator(".chart").nth(index)
        place.scroll_into_view_if_needed()
        place.locator("svg.marks").wait_for()
        assert place.locator("svg.marks").bounding_box()["width"] <= 390
    for summary in page.locator("details:not([open]) > summary").all():
        if summary.is_visible():
            summary.click()
    content, viewport = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert content <= viewport
    left, right = (chart(page, name).bounding_box() for name in (WIN_RATE, REWARD))
    assert right["y"] > left["y"] + left["height"] - 1  # stacked


def test_claims_unfold_by_key_and_all_of_them_for_print(opened):
    page = opened()
    claim = page.locator("#claims details").nth(1)
    claim.locator("summary").focus()
    page.keyboard.press("Enter")
    assert claim.get_by_text("interval above 0").is_visible()
    assert not page.locator("#claims dl").first.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#claims dl").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 38)"


def test_training_curves_follow_the_selected_method(opened):
    page = opened()
    group = page.locator("#training .group")
    group.scroll_into_view_if_needed()
    place = group.locator(".chart").first
    place.locator("svg.marks").wait_for()
    table = points()
    runs = table[["method", "setting", "seed"]].value_counts().groupby("method").size()
    for method in ("ppo", "vbon"):
        group.locator("select").select_option(method)
        sync_api.expect(place.locator("g.mark-line path")).to_have_count(int(runs[method]))
