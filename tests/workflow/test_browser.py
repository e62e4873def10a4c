"""The pages of a real campaign as headless Chromium shows them, on a laptop and on a phone.

Screenshots stay in results/screenshots.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow import browser as browser_module
from tests.workflow.browser import PROGRAM, Browser
from tests.workflow.workplace import Workplace

pytestmark = [
    pytest.mark.xdist_group("workflow"),
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt-get install chromium"),
]

PAGES = ("index", "statistics", "run")
SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
LEAST_FONT_PX = 12
OPEN = "document.querySelectorAll('details').forEach(part => part.open = {})"
BROKEN = "[...document.images].filter(image => !(image.complete && image.naturalWidth > 0)).map(image => image.alt)"
# what sticks out of the page; the inside of a box that scrolls may
WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
FONTS = """
[...document.querySelectorAll('body, body *')]
    .filter(part => part.tagName != 'SUB' && [...part.childNodes].some(node => node.nodeType == 3 && node.data.trim()))
    .map(part => [parseFloat(getComputedStyle(part).fontSize), part.textContent.slice(0, 40)])
"""
LINKS = "[...document.links].map(link => link.getAttribute('href')).filter(link => !link.startsWith('#'))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def faults(browser: Browser, page: Path, width: int, height: int) -> list[str]:
    """What is wrong with a page at this size."""
    visit = browser.show(page, width, height)
    browser.value(OPEN.format("true"))
    found = [f"asks for {url}" for url in visit.requests if not url.startswith(("file:", "data:"))]
    found += [f"console: {text}" for text in visit.complaints]
    found += [f"no picture: {alt}" for alt in browser.value(BROKEN)]
    if (widest := browser.value(WIDEST)) > width:
        found.append(f"{widest} px wide in a window of {width}")
    found += [f"{size} px: {text}" for size, text in browser.value(FONTS) if size < LEAST_FONT_PX]
    found += [f"leads nowhere: {link}" for link in browser.value(LINKS) if not (page.parent / link).exists()]
    return found


@pytest.mark.parametrize("device", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_and_readable(browser: Browser, finished: Workplace, root: Path, name: str, device: str) -> None:
    page = finished.path / "results" / "minimal" / "report" / f"{name}.html"
    assert faults(browser, page, *SIZES[device]) == []
    assert browser.value("document.images.length") > 0
    browser.value(OPEN.format("false"))
    browser.screenshot(root / "results" / "screenshots" / f"{name}-{device}.png")


def test_browser_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(browser_module, "PROGRAM", str(program))
    monkeypatch.setattr(browser_module, "SILENT_s", 0.2)
    with pytest.raises(TimeoutError, match=r"chromium says nothing for 0\.2 s"), Browser(tmp_path / "profile"):
        pass


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>plain</p>", None),
        ('<img alt="far" src="http://example.org/far.png">', "asks for http://example.org/far.png"),
        ("<script>console.error('oh')</script>", "console: "),
        ("<script>nothing.there</script>", "console: "),
        ('<img alt="gone" src="data:image/png;base64,AAAA">', "no picture: gone"),
        ('<p style="width: 3000px">wide</p>', "px wide in a window of"),
        ('<div style="overflow-x: auto"><p style="width: 3000px">wide in its box</p></div>', None),
        ('<p style="font-size: 9px">small print</p>', "9 px: small print"),
        ('<a href="missing.html">there</a>', "leads nowhere: missing.html"),
    ],
)
@pytest.mark.parametrize("device", SIZES)
def test_faults_are_seen(browser: Browser, tmp_path: Path, device: str, body: str, fault: str | None) -> None:
    page = tmp_path / "page.html"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    page.write_text(f"<!doctype html><html><head>{head}</head><body>{body}</body></html>")
    found = faults(browser, page, *SIZES[device])
    assert any(fault in line for line in found) if fault else found == []
