"""The page's files: small, with nothing inline and nothing from elsewhere."""

import re
from itertools import chain

import pytest

from runtime.pages.static_files import FOLDER, OURS, read_files

PAGES = {"agent.html": ("agent.js",), "gateway.html": ("gateway.js", "release.js")}


@pytest.mark.parametrize("html", PAGES)
def test_a_page_is_under_150_kilobytes_with_its_licence(html: str) -> None:
    files = read_files(html, *PAGES[html])
    assert sum(len(file.body) for file in files.values()) < 150_000
    assert b"MIT License" in files["uplot.LICENSE"].body
    assert files[""].content_type == "text/html; charset=utf-8"
    assert files["core.js"].content_type == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("html", PAGES)
def test_everything_that_a_page_asks_for_is_served(html: str) -> None:
    files = read_files(html, *PAGES[html])
    text = (FOLDER / html).read_text()
    asked = set(re.findall(r'(?:src|href)="page/([^"]+)"', text))
    for name in (*PAGES[html], *OURS):
        if name.endswith(".js"):
            asked |= set(re.findall(r'from "\./([^"]+)"', (FOLDER / name).read_text()))
    assert asked <= set(files)


@pytest.mark.parametrize("name", [*PAGES, *chain(*PAGES.values()), "review.html", "review.js", *OURS])
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=\"|\son[a-z]+=\"", text)
    # The name of what a browser draws is no address that it asks.
    assert not re.search(r"https?://", text.replace('"http://www.w3.org/2000/svg"', ""))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
