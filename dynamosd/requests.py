# SPDX-License-Identifier: GPL-2.0-or-later
"""What dynamosctl asks of the daemon, and its answers: files below the run-time folder.

Only who may write to ``requests`` there (root) can ask. ``ID.json`` is a request: the daemon takes
it by removing it, at its next tick, and leaves ``ID.answer``. Who asked removes the answer; and,
when tired of waiting, the request. Whoever of the two succeeds in removing a request knows that the
other one has not: what was withdrawn is never done later.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamosd import files, status
from dynamosd.errors import DynamosError, InvalidInput, Refused, Unreachable

FOLDER = "requests"
MAX_BYTES = 16 * 1024

_ASKED, _ANSWERED = ".json", ".answer"
_PAUSE_SECONDS = 0.05
_MAX_ANSWERS = 64
"""So many answers that nobody has fetched stay: who asked was killed."""

_NO_LOGIN = 2**32 - 1

Json = dict[str, Any]

_ERRORS: dict[str, type[DynamosError]] = {
    each.code: each for each in (DynamosError, InvalidInput, Refused, Unreachable)
}


# ----------------------------------------------------------------------------- who is asked


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``uid`` owns its file; ``said`` is what is in it."""

    id: str
    uid: int
    said: Json


@dataclass(slots=True)
class Inbox:
    """The daemon's side. Trouble with the disk costs the request, never the caller."""

    runtime_dir: Path
    _answers: deque[Path] = field(default_factory=deque)

    @property
    def folder(self) -> Path:
        """Where the requests are."""
        return self.runtime_dir / FOLDER

    def open(self) -> None:
        """Make the folder, for us alone, and throw away what was asked of a daemon before.

        Raises:
            DynamosError: the folder cannot be used, or belongs to somebody else.
        """
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            found = self.folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise DynamosError(f"{self.folder} is not a folder of ours")
            self.folder.chmod(0o700)
            for old in self.folder.iterdir():
                old.unlink(missing_ok=True)
        except OSError as error:
            raise DynamosError(f"cannot use {self.folder}: {error.strerror}") from error

    def take(self) -> list[Request]:
        """Give the requests that have come, the oldest first; each is given once."""
        try:
            found = sorted(self.folder.glob(f"*{_ASKED}"), key=lambda path: path.name)
        except OSError:
            return []
        return [request for path in found if (request := _take(path)) is not None]

    def answer(self, request: Request, answer: Json) -> None:
        """Leave an answer."""
        path = self.folder / f"{request.id}{_ANSWERED}"
        with contextlib.suppress(OSError):
            files.replace(path, json.dumps(answer) + "\n", mode=0o600)
            self._answers.append(path)
            while len(self._answers) > _MAX_ANSWERS:
                self._answers.popleft().unlink(missing_ok=True)


def _take(path: Path) -> Request | None:
    """Read and remove a request; None when it was withdrawn, or is none."""
    if path.name.startswith("."):
        return None
    try:
        uid, raw = _read(path)
        path.unlink()
    except OSError:
        return None
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    return Request(path.name.removesuffix(_ASKED), uid, said if isinstance(said, dict) else {})


def _read(path: Path) -> tuple[int, bytes]:
    """Give a file's owner and content; a FIFO or a link is not followed, nor waited for."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return found.st_uid, b""
        return found.st_uid, file.read(MAX_BYTES)


def refusal(error: DynamosError) -> Json:
    """Give the answer that makes `ask` raise the error."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


# --------------------------------------------------------------------------------- who asks


def ask(runtime_dir: Path, said: Json, timeout: float, hint: str = "") -> Json:
    """Ask the daemon, and give its answer.

    Args:
        runtime_dir: the daemon's.
        said: what is asked.
        timeout: how long to wait, in seconds.
        hint: what to do about a daemon that is not ours to ask.

    Raises:
        Unreachable: there is no daemon, it is not ours to ask, or it does not answer.
        DynamosError: what the daemon says; the class is that of its error.
    """
    running = status.read_running(runtime_dir)
    # Sorted by name, they are sorted by time.
    name = f"{time.monotonic_ns():020d}-{secrets.token_hex(4)}"
    asked = runtime_dir / FOLDER / f"{name}{_ASKED}"
    try:
        files.replace(asked, json.dumps({**said, "login": _login()}), mode=0o600)
    except PermissionError:
        raise Unreachable("the daemon is not ours to ask", hint=hint) from None
    except FileNotFoundError:
        raise Unreachable("the daemon takes no requests", hint="it is an older one") from None
    except OSError as error:
        raise DynamosError(f"cannot write {asked.parent}: {error.strerror}") from error
    answer = _wait(runtime_dir, asked, running["pid"], timeout)
    if (found := answer.get("error")) is not None:
        kind = _ERRORS.get(found["code"], DynamosError)
        raise kind(found["message"], hint=found["hint"])
    return answer


def _wait(runtime_dir: Path, asked: Path, pid: int, timeout: float) -> Json:
    answered = asked.with_suffix(_ANSWERED)
    deadline = time.monotonic() + timeout
    try:
        is_last = False
        while not is_last:
            # Whoever was kept from looking for longer than that looks once more.
            is_last = time.monotonic() >= deadline
            # Looked for first: a daemon may answer, and then leave.
            now = status.read(runtime_dir)
            with contextlib.suppress(FileNotFoundError):
                answer: Json = json.loads(answered.read_text(encoding="utf-8"))
                return answer
            if now is None or now["pid"] != pid:
                raise Unreachable("the daemon went away before it had answered")
            time.sleep(_PAUSE_SECONDS)
    finally:
        withdrawn = _removed(asked)
        _removed(answered)
    if withdrawn:
        message = f"the daemon has not taken the request within {timeout:g} s; it is withdrawn"
        raise Unreachable(message, hint="it may be switching: dynamosctl status")
    message = f"the daemon has taken the request, and not answered within {timeout:g} s"
    raise Unreachable(message, hint="see what it did: dynamosctl status")


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _login() -> int | None:
    """Give the uid that somebody logged in with, whoever they are now; None if nobody has."""
    try:
        uid = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if uid == _NO_LOGIN else uid
