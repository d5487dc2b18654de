# SPDX-License-Identifier: GPL-2.0-or-later
"""All that can be done to the module at random and at once, very often: nothing breaks or leaks.

`DYNAMOS_TORTURE` says how many steps, `DYNAMOS_SWITCHES` and `DYNAMOS_CYCLES` how long the soak is,
`DYNAMOS_SEED` which dice. `make torture` and `make soak` do more than `make test`. What failed is
at the end of the events in the guest's temporary folder; the seed is printed.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.torture import actions, machine
from tests.kernel.torture.hands import Action, Scene, deal, play, share
from tests.kernel.torture.leaks import leaks, most_grown
from tests.kernel.torture.stage import PIPE, READAHEAD, SELFTEST, calm, stage
from tests.kernel.traffic import counted, stress_ng, summed, verified_io

SEED = int(os.environ.get("DYNAMOS_SEED", "1"))
STEPS = int(os.environ.get("DYNAMOS_TORTURE", "120"))
SWITCHES = int(os.environ.get("DYNAMOS_SWITCHES", "120"))
CYCLES = int(os.environ.get("DYNAMOS_CYCLES", "8"))
LEAKS_FROM = 2000
"""Fewer switches tell nothing of leaks: what fills caches looks like one."""

HANDS = 3
MODES = (*actions.MODES, "mode=scoped scope=handler", "", "timeout_ms=200")

HALVES = 2
RARELY = 20
"""One switch in so many of the soak is in another mode than the one that costs least."""


def say(what: str) -> None:
    print(what, flush=True)  # noqa: T201 (shown with pytest -s, and when it fails)


@pytest.mark.timeout(1200 + 30 * STEPS)
def test_everything_at_once(disk: Path, data: Path, tmp_path: Path) -> None:
    say(f"DYNAMOS_SEED={SEED} DYNAMOS_TORTURE={STEPS}")
    trees, movable = (READAHEAD, SELFTEST, PIPE), (READAHEAD, SELFTEST)
    decks = deal(share(actions.EVERYTHING, STEPS), HANDS, SEED)
    with stage(tmp_path, trees, movable, MODES) as scene, counted("pipe", "pipe_write"):
        with summed(data, tmp_path), verified_io(disk, 1):
            start = time.monotonic()
            done = play([scene] * HANDS, decks, SEED)
            took = time.monotonic() - start
        calm(scene)
    say(f"{STEPS} steps by {HANDS} hands in {took:.0f} s: {dict(sorted(done.items()))}")
    for what in ("plain", "load", "unload", "clear", "read", "caller", "holder"):
        assert done[what] > 0, f"{what} was never done"


def soak(scene: Scene, folders: tuple[Path, Path, Path], switches: int, cycles: int) -> None:
    """Do one part of the soak, under load, and come to rest. Each hand has its own subsystem."""
    disk, data, temporary = folders
    scenes, decks = [], []
    for number, tree in enumerate(scene.trees):
        each = switches // len(scene.trees)
        movable = [tree] if tree in scene.movable else []
        cards: dict[Action, int] = {
            actions.switch_plainly: each - each // RARELY,
            actions.switch_any: each // RARELY,
            actions.cycle: cycles // len(scene.movable) if movable else 0,
        }
        scenes.append(replace(scene, trees=[tree], movable=movable))
        decks += deal(cards, 1, SEED + number)
    with stress_ng(disk), summed(data, temporary):
        start = time.monotonic()
        done = play(scenes, decks, SEED)
        took = time.monotonic() - start
    calm(scene)
    say(f"{switches} switches, {cycles} cycles in {took:.0f} s: {dict(sorted(done.items()))}")


@pytest.mark.timeout(1200 + SWITCHES + 20 * CYCLES)
def test_soak(disk: Path, data: Path, tmp_path: Path) -> None:
    say(f"DYNAMOS_SEED={SEED} DYNAMOS_SWITCHES={SWITCHES} DYNAMOS_CYCLES={CYCLES}")
    folders = (disk, data, tmp_path)
    half = (SWITCHES // HALVES, CYCLES // HALVES)
    trees, movable = (READAHEAD, SELFTEST, PIPE), (READAHEAD, SELFTEST)
    with stage(tmp_path, trees, movable, MODES) as scene, counted("pipe", "pipe_write"):
        # What is filled once is full afterwards.
        soak(scene, folders, SWITCHES // 20, max(2, CYCLES // 20))
        used = [machine.memory()]
        for _ in range(HALVES):
            soak(scene, folders, *half)
            used.append(machine.memory())
    say("most grown: " + "; ".join(most_grown(used)))
    assert len({each.modules for each in used}) == 1, "a module has stayed"
    if SWITCHES >= LEAKS_FROM:
        assert leaks(used, min(half)) == []
