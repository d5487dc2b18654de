# SPDX-License-Identifier: GPL-2.0-or-later
"""Every way to get a policy wrong that we know of, with all that is said about it.

Each file in ``broken`` has its messages at its top, in lines that begin with ``#!``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamosd.policy.problems import Problem, Severity, format_github
from tests.unit.policy.build import lines_of

FILES = sorted((Path(__file__).parent / "broken").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_broken_policy(file: Path) -> None:
    raw = file.read_bytes()
    marked = [line[3:] for line in raw.splitlines() if line.startswith(b"#! ")]
    assert [f"test.yaml:{line.decode()}" for line in marked] == lines_of(raw)
    assert marked


def test_there_are_many() -> None:
    assert len(FILES) >= 80


def test_annotations_for_github() -> None:
    problem = Problem("a,b:c.yaml", 9, 7, Severity.NOTE, "50 % of\nit", "some-code", "mend it")
    assert format_github(problem) == (
        "::notice file=a%2Cb%3Ac.yaml,line=9,col=7,title=some-code::50 %25 of%0Ait (mend it)"
    )
