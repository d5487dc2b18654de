# SPDX-License-Identifier: GPL-2.0-or-later
"""The pictures in docs/screenshots are what `make screenshots` makes of the programs now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs/screenshots"


def test_pictures_are_those_of_the_programs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.screenshots", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    made = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert made
    assert made == {each.name: each.read_text() for each in KEPT.glob("*.svg")}
    readme = (ROOT / "README.md").read_text()
    assert "(docs/screenshots/top.svg)" in readme
    for text in made.values():
        assert "http" not in text.replace("http://www.w3.org/", "")
        words = "".join(ET.fromstring(text).itertext()).replace("\N{NO-BREAK SPACE}", " ")  # noqa: S314
        assert "dynamosctl top  00:01:04  every 2s" in words
        assert "█" in words
