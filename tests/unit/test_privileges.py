# SPDX-License-Identifier: GPL-2.0-or-later
"""Capabilities: in effect only while the probes are attached, and never in another thread."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dynamosd import privileges

_NOBODY = "65534"
_CAPABILITY = 5
"""CAP_KILL: any will do, and a sandbox that runs tests has it."""

_PROGRAM = """
import json, re, sys, threading
module = {}
exec(sys.argv[1], module)

def sets():
    text = open("/proc/thread-self/status").read()
    found = re.findall(r"Cap(Eff|Prm|Amb):\\t(.*)", text)
    return {name: int(mask, 16) for name, mask in found}

def elsewhere():
    found = []
    thread = threading.Thread(target=lambda: found.append(sets()))
    thread.start()
    thread.join()
    return found[0]

seen = {"at first": sets()}
module["drop"]()
seen["dropped"] = sets()
go_on, looked = threading.Event(), []
thread = threading.Thread(target=lambda: (go_on.wait(), looked.append(sets())))
thread.start()
with module["in_effect"]():
    seen["in effect"] = sets()
    go_on.set()
    thread.join()
seen["a thread made before"] = looked[0]
seen["afterwards"] = sets()
seen["a thread made afterwards"] = elsewhere()
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, int]]:
    """Give the sets of a user with one capability, at each point."""
    argv = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    argv += ["--inh-caps=+kill", "--ambient-caps=+kill", "/usr/bin/python3", "-c", _PROGRAM]
    # The source itself: that user may not be let into the project's folder.
    argv.append(Path(privileges.__file__).read_text(encoding="utf-8"))
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/", timeout=60)
    result: dict[str, dict[str, int]] = json.loads(done.stdout)
    return result


def test_they_are_there_at_first(seen: dict[str, dict[str, int]]) -> None:
    bit = 1 << _CAPABILITY
    assert seen["at first"] == {"Eff": bit, "Prm": bit, "Amb": bit}


@pytest.mark.parametrize(
    "when", ["dropped", "afterwards", "a thread made before", "a thread made afterwards"]
)
def test_none_is_in_effect(seen: dict[str, dict[str, int]], when: str) -> None:
    assert seen[when] == {"Eff": 0, "Prm": 1 << _CAPABILITY, "Amb": 0}


def test_they_come_back_to_attach(seen: dict[str, dict[str, int]]) -> None:
    assert seen["in effect"]["Eff"] == 1 << _CAPABILITY
