# SPDX-License-Identifier: GPL-2.0-or-later
"""``reload``: have the daemon read its policies again, and say what came of it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from dynamosd import status
from dynamosd.cli.output import print_json, tell_if_long, warn
from dynamosd.errors import Unreachable
from dynamosd.kmod import ROOT_HINT

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from dynamosd.kmod import Kmod

_PAUSE_SECONDS = 0.05


def reload_policies(args: argparse.Namespace, kmod: Kmod) -> int:
    """Send the daemon SIGHUP and wait for its answer; 1 if the last good policies stay."""
    del kmod
    before = status.read_running(args.runtime_dir)
    try:
        os.kill(before["pid"], signal.SIGHUP)
    except PermissionError:
        raise Unreachable("the daemon is not ours to tell", hint=ROOT_HINT) from None
    except ProcessLookupError:
        raise Unreachable("the daemon has just gone") from None
    with tell_if_long(f"waiting for the daemon to read its policies, {args.timeout:g} s at most"):
        after = _wait(args.runtime_dir, before, args.timeout)
    good = bool(after["last_reload_successful"])
    names = [policy["name"] for policy in after["policies"]]
    if args.output == "json":
        print_json("Reload", successful=good, policies=names, error=after["reload_error"])
    elif good:
        print(f"policies read again: {', '.join(names) or 'none'}")
    else:
        print(after["reload_error"])
        warn("the policies are not good: the last good ones stay in force")
    return 0 if good else 1


def _wait(runtime_dir: Path, before: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Give the status after the reload."""
    deadline = time.monotonic() + timeout
    is_last = False
    while not is_last:
        # Whoever was kept from looking for longer than that looks once more.
        is_last = time.monotonic() >= deadline
        now = status.read(runtime_dir)
        if now is None or now["pid"] != before["pid"]:
            raise Unreachable("the daemon went away before it had read them")
        if now["reloads"] > before["reloads"]:
            return now
        time.sleep(_PAUSE_SECONDS)
    raise Unreachable(
        f"the daemon has not read its policies within {timeout:g} s; it will when it goes on",
        hint="it may be switching, stopped, or waiting for the module: dynamosctl verify",
    )
