"""Pages in a real browser: no error on the console, nothing asked of the network, pictures there.

Needs Chromium and the package playwright (extra `dev`); without either the tests say so and skip.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reportkit import HOSTILE, bare, full
from test_report_html import inspection

from mipack.report.compare import compare
from mipack.report.html import render, render_comparison, render_inspection

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PAGES = {
    "report": lambda text: render(full(text)),
    "bare": lambda text: render(bare(name=text)),
    "comparison": lambda text: render_comparison(compare([(text, full(text)), ("b", full("b"))])),
    "inspection": lambda text: render_inspection(inspection(text)),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install --no-install-recommends chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="pip install playwright (extra dev)")
    with sync.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Visit:
    """A page that was opened, and all that it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.bad: list[tuple[str, str]] = []
        options = {"viewport": {"width": 1000, "height": 700}, **options}
        self.page = browser.new_page(**options)
        self.page.on("console", lambda m: self.bad.append((m.type, m.text)))
        self.page.on("pageerror", lambda error: self.bad.append(("pageerror", str(error))))
        self.page.on("dialog", lambda dialog: self.bad.append(("dialog", dialog.message)))
        self.page.on("request", self._asked)
        self.page.goto(path.resolve().as_uri(), wait_until="load")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith("file:") or request.is_navigation_request() is False:
            self.bad.append(("network", request.url))


@pytest.mark.parametrize("kind", PAGES)
def test_pages_are_quiet_and_fit(browser: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(PAGES[kind](" ".join(HOSTILE)), encoding="utf-8")
    visit = Visit(browser, path)
    for scheme, width in (("light", 1000), ("dark", 400)):
        visit.page.emulate_media(color_scheme=scheme)
        visit.page.set_viewport_size({"width": width, "height": 700})
        assert not visit.page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert visit.bad == []
    visit.page.close()


def test_pictures_are_drawn(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render(full()), encoding="utf-8")
    page = Visit(browser, path).page
    sizes = page.eval_on_selector_all(
        "figure svg", "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert len(sizes) == 4 and all(size > 20 for size in sizes)
    filled = "getComputedStyle(document.querySelector('rect.f-after')).fill"
    light = page.evaluate(filled)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(filled) != light
    page.close()


def test_print_shows_what_is_folded_away(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render(full()), encoding="utf-8")
    page = Visit(browser, path).page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.eval_on_selector_all("details", "all => all.every(one => one.open)")
    assert not page.locator("nav").is_visible()
    page.close()


def test_the_keyboard_reaches_what_can_be_opened(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render(full()), encoding="utf-8")
    page = Visit(browser, path).page
    seen = []
    for _ in range(45):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.tagName"))
    assert seen[0] == "A" and "SUMMARY" in seen and "DIV" in seen  # skip link, folds, tables
    page.close()


def test_search_narrows_the_groups(browser: Any, tmp_path: Path) -> None:
    found = inspection("layer")
    row = found["groups"][1]  # type: ignore[index]
    names = ("needle <b>", "layer one", "layer two")
    found["groups"] = tuple({**row, "name": n, "weights": (), "reasons": ()} for n in names)
    path = tmp_path / "page.html"
    path.write_text(render_inspection(found), encoding="utf-8")
    visit = Visit(browser, path)
    rows = visit.page.locator("#groups tbody tr:visible")
    assert rows.count() == 3
    visit.page.get_by_label("Search").fill("needle <b>")
    told = visit.page.locator("output")
    told.filter(has_text="1 of 3").wait_for()
    assert rows.count() == 1 and "needle <b>" in rows.first.text_content()
    visit.page.get_by_label("Search").fill("")
    visit.page.get_by_label("free").uncheck()
    told.filter(has_text="0 of 3").wait_for()
    assert visit.bad == []
    visit.page.close()


def test_without_scripts_everything_is_there(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_inspection(inspection("layer")), encoding="utf-8")
    visit = Visit(browser, path, java_script_enabled=False)
    assert visit.page.locator("#groups tbody tr").count() == 2
    assert visit.bad == []
    visit.page.close()
