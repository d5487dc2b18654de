# SPDX-License-Identifier: GPL-2.0-or-later
"""``dynamosctl`` as a program on a path, about a fake module."""

from __future__ import annotations

import sys
from pathlib import Path

from dynamosd.testing import FakeModule

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """\
#!{python}
import sys
sys.path.insert(0, {root!r})
from dynamosd.cli import main
from dynamosd.kmod import Kmod
sys.exit(main(kmod=Kmod({sysfs!r}, "/nonexistent", settings={settings!r})))
"""


def write_program(module: FakeModule, folder: Path) -> Path:
    """Make the program; it has a folder of its own."""
    program = folder / "bin" / "dynamosctl"
    program.parent.mkdir()
    text = PROGRAM.format(
        python=sys.executable,
        root=str(ROOT),
        sysfs=str(module.sysfs),
        settings=str(module.settings),
    )
    program.write_text(text)
    program.chmod(0o755)
    return program
