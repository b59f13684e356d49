"""Every page leads somewhere: its links, their anchors, and the tests that it names as proof."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (REPO, REPO / "docs", REPO / "charts", REPO / "examples")
    for page in (folder.glob("*.md") if folder == REPO else folder.rglob("*.md"))
)
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
NAMES = re.compile(r"`(?:tests/[\w/.]+::)?(test_\w+)`")
FILES = re.compile(r"`((?:tests|hack|examples|charts|operator|workloads|benchmarks)/[\w./-]+)`")


def text_of(page: Path) -> str:
    """A page without what stands in it as code."""
    return FENCE.sub("", page.read_text())


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives a page's headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+?) *$", text_of(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
        if found[anchor]:
            found[f"{anchor}-{found[anchor]}"] = 0
    return frozenset(found)


@cache
def names_of_tests() -> frozenset[str]:
    return frozenset(
        name
        for path in (REPO / "tests").rglob("*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    dead = []
    for match in LINK.finditer(text_of(page)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_test_and_file_that_is_named_is_there(page: Path) -> None:
    text = text_of(page)
    assert set(NAMES.findall(text)) - names_of_tests() == set()
    assert [name for name in FILES.findall(text) if not (REPO / name).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = REPO / "docs/README.md"
    linked = {
        (index.parent / match[1].partition("#")[0]).resolve()
        for match in LINK.finditer(text_of(index))
        if match[1] and not match[1].startswith("http")
    }
    pages = {page.resolve() for page in (REPO / "docs").rglob("*.md")} - {index.resolve()}
    assert {str(page.relative_to(REPO)) for page in pages - linked} == set()


def test_a_heading_has_the_anchor_that_github_gives_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b.c`, [d](e) & f–g\n## Again\n```\n# code\n```\n## Again\n")
    assert anchors(page) == {"a-bc-d--fg", "again", "again-1"}
