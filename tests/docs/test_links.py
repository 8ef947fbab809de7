"""Every link within the repository leads somewhere, to the very heading; every ADR is in the index."""

import re

import pytest

from tests.docs.blocks import ROOT, documents

_LINK = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"(?ms)^ *(```|~~~).*?^ *\1 *$")


def prose(path: str) -> str:
    return _FENCED.sub("", (ROOT / path).read_text("utf-8"))


def anchors(path: str) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"(?m)^#{1,6} +(.*?) *#*$", prose(path))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", documents())
def test_links_lead_somewhere(path: str) -> None:
    broken = []
    for pair in _LINK.findall(prose(path)):
        link = pair[0] or pair[1]
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / path).parent / file if file else ROOT / path
        # A file that is there, and in it the heading, if one is named.
        known = anchors(str(target.resolve().relative_to(ROOT))) if anchor and target.is_file() else {anchor}
        if not target.exists() or anchor not in known:
            broken.append(link)
    assert broken == []


def test_the_index_lists_every_decision() -> None:
    listed = set(re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", prose("docs/adr/README.md")))
    assert listed == {path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md")}


def test_every_document_is_reached_from_the_readme() -> None:
    reached, waiting = set[str](), ["README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or not path.endswith(".md"):
            continue
        reached.add(path)
        for pair in _LINK.findall(prose(path)):
            file = (pair[0] or pair[1]).partition("#")[0]
            if file and not file.startswith(("http", "mailto:")):
                waiting.append(str(((ROOT / path).parent / file).resolve().relative_to(ROOT)))
    assert set(documents()) - reached == set()
