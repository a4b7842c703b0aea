"""The golden report can be used by everybody: its structure, and axe-core's judgement in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from golden import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
DARK = "--blink-settings=preferredColorScheme=0"
AXE = """<script>{axe}</script>
<script>
axe.run(document, {{resultTypes: ["violations"]}}).then(found => {{
  const out = document.createElement("pre");
  out.id = "axe";
  out.textContent = JSON.stringify({{
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    passes: found.passes.map(pass => pass.id),
    violations: found.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html.slice(0, 200))]),
  }});
  document.body.append(out);
}});
</script></body>"""


@pytest.fixture(scope="module")
def page(golden: Path) -> Page:
    return Page((golden / "report.html").read_text())


def test_headings_are_in_order(page: Page) -> None:
    assert page.stack == []
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_every_table_has_a_caption_and_scoped_headers(page: Page) -> None:
    assert len(page.tables) > 8
    assert len(page.captions) == len(page.tables)
    assert all(caption.strip() for caption in page.captions)
    scopes = [attributes.get("scope") for tag, attributes in page.elements if tag == "th"]
    assert {*scopes} == {"col", "row"}


def test_every_picture_says_what_it_shows(page: Page, golden: Path) -> None:
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == len([*(golden / "figures").glob("*.svg")]) > 8
    names = [picture["aria-label"] or "" for picture in pictures]
    assert all(picture["role"] == "img" for picture in pictures)
    assert all(re.search(r"\d", name) and len(name) > 40 for name in names)
    assert len({*names}) == len(names)
    assert not [tag for tag, _ in page.elements if tag in ("img", "canvas", "picture")]


def test_figure_files_have_titles(golden: Path) -> None:
    for path in (golden / "figures").glob("*.svg"):
        root = ElementTree.fromstring(path.read_text())
        assert root[0].tag.endswith("title")
        assert root[0].text


def test_ids_are_unique_and_everything_that_is_referred_to_exists(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len({*ids})
    for _, attributes in page.elements:
        for key in ("href", "xlink:href"):
            target = attributes.get(key) or ""
            assert not target.startswith("#") or target[1:] in ids
        for key in ("aria-labelledby", "aria-describedby"):
            assert {*(attributes.get(key) or "").split()} <= {*ids}
        for value in attributes.values():
            assert {*re.findall(r"url\(#(.*?)\)", value or "")} <= {*ids}


def test_landmarks_language_and_a_way_past_the_summary(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert all(tags.count(tag) == 1 for tag in ("header", "main", "nav"))
    assert ("html", {"lang": "en"}) in page.elements
    assert ("a", {"class": "skip", "href": "#main"}) in page.elements
    viewport = [attributes["content"] for _, attributes in page.elements if attributes.get("name") == "viewport"]
    assert viewport == ["width=device-width, initial-scale=1"]


def test_what_scrolls_can_be_reached_and_has_a_name_of_its_own(page: Page) -> None:
    boxes = [attributes for _, attributes in page.elements if attributes.get("class") == "scroll"]
    assert all(box["tabindex"] == "0" and box["role"] == "region" for box in boxes)
    names = [box["aria-label"] for box in boxes]
    assert len({*names}) == len(names)


def test_nothing_is_loaded_and_nothing_runs(page: Page, golden: Path) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "link", "image", "base", "form")
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset")]
        target = attributes.get("href") or attributes.get("xlink:href") or ""
        assert tag == "a" or not re.match(r"[a-z]+:|//", target)
    styles = "".join(re.findall(r"<style[^>]*>(.*?)</style>", (golden / "report.html").read_text(), re.DOTALL))
    assert styles
    assert "@import" not in styles
    assert "url(" not in styles


def test_links_to_other_results_lead_somewhere(page: Page, golden: Path) -> None:
    links = [attributes.get("href") or "" for tag, attributes in page.elements if tag == "a"]
    files = [link for link in links if not re.match(r"https?:|#", link)]
    assert len(files) > 10
    assert [link for link in files if not (golden / link).is_file()] == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    if shutil.which("npm") is None:
        pytest.skip("needs npm, to fetch axe-core: apt-get install npm")
    folder = tmp_path_factory.mktemp("axe")
    fetched = subprocess.run(["npm", "pack", "axe-core@4"], cwd=folder, capture_output=True, text=True, timeout=120)
    if fetched.returncode:
        pytest.skip(f"npm could not fetch axe-core: {fetched.stderr.strip().splitlines()[-1:]}")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder)
    return (folder / "package" / "axe.min.js").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "flags"),
    [(1280, ()), (1280, (DARK,)), (360, ()), (360, (DARK,))],
    ids=["light", "dark", "phone", "phone, dark"],
)
def test_axe_finds_nothing_serious(axe: str, golden: Path, tmp_path: Path, width: int, flags: tuple[str, ...]) -> None:
    found = _judged(axe, (golden / "report.html").read_text(), tmp_path, width, flags)
    assert found["dark"] == (DARK in flags)
    assert found["width"] == width
    assert found["scroll"] <= width, "the page scrolls sideways"
    assert {"color-contrast", "heading-order", "svg-img-alt", "scrollable-region-focusable"} <= {*found["passes"]}
    assert _serious(found) == []


@pytest.mark.slow
def test_axe_would_find_what_is_wrong(axe: str, golden: Path, tmp_path: Path) -> None:
    html = (golden / "report.html").read_text()
    worse = html.replace("--soft: #5b6470", "--soft: #aab0b8").replace('role="img" aria-label=', 'role="img" data-x=')
    worse = re.sub(r"<(title|desc)>.*?</\1>", "", worse.replace('<html lang="en">', "<html>"), flags=re.DOTALL)
    found = _judged(axe, worse, tmp_path, 1280, ())
    assert {"color-contrast", "svg-img-alt", "html-has-lang"} <= {violation[1] for violation in _serious(found)}


def _judged(axe: str, html: str, scratch: Path, width: int, flags: tuple[str, ...]) -> dict[str, Any]:
    """What axe says of a page with all its details open."""
    page = scratch / "page.html"
    page.write_text(html.replace("<details>", "<details open>").replace("</body>", AXE.format(axe=axe)))
    return _in_browser(page, scratch, width, flags)


def _serious(found: dict[str, Any]) -> list[Any]:
    return [violation for violation in found["violations"] if violation[0] in ("serious", "critical")]


def _in_browser(page: Path, scratch: Path, width: int, flags: tuple[str, ...]) -> dict[str, Any]:
    """Load a page ``width`` pixels wide and return what it wrote into ``#axe``."""
    frame = scratch / "frame.html"
    frame.write_text(
        f'<iframe src="{page.name}" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>setInterval(() => {"
        'const found = document.querySelector("iframe").contentDocument?.querySelector("#axe");'
        'if (found && !document.querySelector("#axe")) document.body.append(found.cloneNode(true));'
        "}, 200)</script>"
    )
    command = [
        str(CHROMIUM),
        *FLAGS,
        *flags,
        "--allow-file-access-from-files",
        f"--user-data-dir={scratch / 'profile'}",
    ]
    done = subprocess.run(
        [*command, "--virtual-time-budget=60000", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
    )
    written = re.search(r'<pre id="axe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert written, done.stderr[-2000:]
    return dict(json.loads(unescape(written[1])))
