# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that shows a daemon which runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dynamosd.api import connection
from dynamosd.api.documents import View
from dynamosd.api.handler import Shown
from dynamosd.api.server import ApiServer
from dynamosd.requests import Inbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dynamosd.testing import FakeModule

STATUS = {"apiVersion": "dynamos/v1alpha1", "kind": "DaemonStatus", "pid": 1, "updated": "now"}
RECORDS = [{"kind": "switch", "subsystem": "a", "time_seconds": float(n)} for n in range(5)]


class Answers:
    """What the server shows; a test may change it."""

    def __init__(self, folder: Path) -> None:
        """Be ready."""
        self.ready = True
        self.journal = folder / "journal.jsonl"
        self.view = View(self.journal)
        self.inbox = Inbox()
        self.shown = Shown(
            lambda: b"dynamos_build_info 1.0\n", lambda: self.ready, lambda: self.view
        )


@pytest.fixture
def answers(tmp_path: Path, module: FakeModule) -> Answers:
    """Give what the server shows: a daemon that runs."""
    made = Answers(tmp_path)
    text = json.dumps({**STATUS, "policies": [{"name": "storm"}]})
    made.view = View(made.journal, text, module.kmod.read())
    made.journal.write_text("".join(json.dumps(each) + "\n" for each in RECORDS))
    made.journal.chmod(0o640)
    return made


@pytest.fixture
def server(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ApiServer]:
    """Run a server on a port of the system's choice, which cuts nobody off for being slow."""
    monkeypatch.setattr(connection, "DEADLINE_SECONDS", 3600.0)
    made = ApiServer(("127.0.0.1", 0), tmp_path, answers.shown, answers.inbox)
    yield made
    made.close()
