# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon keeps over restarts: a JSON file that follows each change of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dynamosd import files

VERSION = 1
RETRY_SECONDS = 60.0
"""How often one tries again to write what could not be written."""

Json = dict[str, Any]
Content = TypeVar("Content")


@dataclass(slots=True)
class KeptFile:
    """Such a file. Trouble with it is counted and told; it never stops the caller.

    Args:
        path: the file; its folder is made when it is missing.
        what: what is in it, for people, in the plural.
        tell: shows a line to the operator.
    """

    path: Path
    what: str
    tell: Callable[[str], None]
    errors: int = 0
    _unwritten: Json | None = None
    _try_at: float = 0.0

    def load(self, parse: Callable[[Json], Content]) -> Content | None:
        """Give what ``parse`` makes of it; None if there is no file, or none that can be used.

        Such a one is put aside, and said. ``parse`` may raise what wrong JSON makes it raise.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._put_aside(str(error))
            return None
        try:
            content = json.loads(text)
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']}, not {VERSION}")  # noqa: TRY301
            return parse(content)
        except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._put_aside(f"it is not what a daemon wrote ({error!r})")
            return None

    def _put_aside(self, why: str) -> None:
        self.errors += 1
        aside = self.path.with_name(f"{self.path.name}.bad")
        try:
            self.path.replace(aside)
        except OSError:
            aside = self.path
        self.tell(f"{self.what} are lost: {self.path} cannot be used: {why}; see {aside}")

    def save(self, content: Json) -> str:
        """Write it; give what keeps it from being written, "" if nothing does."""
        text = json.dumps({"version": VERSION, **content}, indent=2) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(self.path, text, mode=0o640, sync=True)
        except OSError as error:
            self.errors += 1
            self._unwritten = content
            return f"cannot write {self.path}: {error.strerror}; a restart of the daemon forgets it"
        self._unwritten = None
        return ""

    def save_again(self, now: float) -> None:
        """Write what could not be written, if there is some; not too often, for it may take long.

        Args:
            now: CLOCK_MONOTONIC in seconds.
        """
        if self._unwritten is None:
            self._try_at = now + RETRY_SECONDS
        elif now >= self._try_at:
            self._try_at = now + RETRY_SECONDS
            if not self.save(self._unwritten):
                self.tell(f"{self.path} is written now")
