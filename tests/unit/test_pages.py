# SPDX-License-Identifier: GPL-2.0-or-later
"""README and docs/: links lead somewhere, commands are commands, the first policy is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dynamosd.cli import make_parser
from dynamosd.policy.load import parse_policy
from dynamosd.policy.names import SubsystemNames

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
READAHEAD = {
    "readahead": SubsystemNames(
        editions=frozenset({"original", "random"}), functions=frozenset({"page_cache_ra_order"})
    )
}

_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Give what GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def commands(page: Path) -> list[list[str]]:
    """Give the lines in a page's blocks that call dynamosctl."""
    lines = [line for block in _FENCED.findall(page.read_text()) for line in block.splitlines()]
    lines = [line.removeprefix("$ ").partition(" # ")[0].partition(" | ")[0] for line in lines]
    calls = [line for line in lines if line.startswith("dynamosctl ")]
    return [shlex.split(call)[1:] for call in calls]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        name, _, anchor = link.partition("#")
        if "://" in name:
            continue
        there = (page.parent / name) if name else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_commands(page: Path) -> None:
    for words in commands(page):
        said = words[0].endswith(":")  # by dynamosctl
        if not said and not any(word.startswith("[") for word in words):
            make_parser().parse_args(words)


def test_there_are_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 30


def test_the_first_policy_is_one() -> None:
    found = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/install.md").read_text(), re.DOTALL)
    assert found
    assert parse_policy(found[1].encode(), "first.yaml", known=READAHEAD).remarks == ()
