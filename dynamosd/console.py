# SPDX-License-Identifier: GPL-2.0-or-later
"""What both programs say to a person: one line an error, and how they end."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd.errors import DynamosError

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


def say(text: str) -> None:
    """Write a line to stderr, with the time unless the systemd journal adds it.

    A stderr that is closed or full must not stop the daemon: then the line is lost.
    """
    if "JOURNAL_STREAM" not in os.environ:
        text = f"{time.strftime('%H:%M:%S')} {text}"
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the one place
    except (OSError, ValueError):
        return


def complain(program: str, error: DynamosError, *, as_json: bool = False) -> None:
    """Show an error on stderr: a line, and what to do about it.

    An error that is many, each with its place in a file (``problems``), is shown as those lines.
    """
    problems = [str(each) for each in getattr(error, "problems", ())]
    message = error.message
    if problems:
        message = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found; not started"
    if as_json:
        said = {"code": error.code, "message": error.message, "hint": error.hint}
        lines = [json.dumps({"error": said})]
    else:
        lines = [*problems, f"{program}: error: {message}"]
        if error.hint:
            lines.append(f"{program}: hint: {error.hint}")
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - this is the one place


def run_program(program: str, action: Callable[[], int], *, as_json: bool = False) -> int:
    """Give the exit code that ``action`` ends with, however it ends; never a traceback."""
    try:
        code = action()
        sys.stdout.flush()
    except DynamosError as error:
        complain(program, error, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has what it wanted. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(program, DynamosError(f"{where}{error.strerror or error}"), as_json=as_json)
        return DynamosError.exit_code
    except Exception as error:  # noqa: BLE001 - whatever it is, a person gets one line
        complain(program, _internal(error), as_json=as_json)
        return DynamosError.exit_code
    return code


def _internal(error: Exception) -> DynamosError:
    """Name a fault of the program itself, and where in it that is."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    where = f" at {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
    message = f"internal error: {type(error).__name__}: {error}{where}"
    return DynamosError(message, hint="this is a fault of the program: please report it")
