"""README.md and the pages of docs/: their fenced blocks, commands and links."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# An inline code span that begins like this, with something behind it, is a command that a reader may copy.
COMMAND = re.compile(r"`((?:cp|export|make|python|snakemake|source) [^`]+)`")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page. language: bash, yaml, python, or "" for plain text."""

    page: str
    language: str
    text: str


def blocks(language):
    """Every fenced block of one language, of every page."""
    return [block for path in PAGES for block in _blocks(path) if block.language == language]


def _blocks(path):
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [
        Block(path.name, language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in found
    ]


def prose(path):
    """A page without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def commands(path):
    """The command lines of a page, in order: those of its bash blocks, then those in its text."""
    fenced = [line for block in _blocks(path) if block.language == "bash" for line in _lines(block.text)]
    return fenced + COMMAND.findall(prose(path))


def _lines(text):
    """The commands of a bash block: continued lines joined, comments and blank lines left out."""
    lines = (re.sub(r"(^|\s+)# .*$", "", line).strip() for line in text.replace("\\\n", "").splitlines())
    return [re.sub(r"\s+", " ", line) for line in lines if line]


def anchors(path):
    """What a link to a heading of the page may name, as GitHub makes it of the heading."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path):
    """The targets of the page's links and pictures that lie in this repository: (path, anchor), either may be ""."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    return [tuple((target + "#").split("#")[:2]) for target in targets if "://" not in target]
