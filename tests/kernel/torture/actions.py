# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that can be done to the module, each thing once, with what may be answered to it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.kernel import control, guest
from tests.kernel.target import Target
from tests.kernel.torture.answers import OFF
from tests.kernel.torture.hands import Action, Hand, Tree
from tests.kernel.torture.invariants import MOST_IN_FLIGHT

SCOPES = (
    "mode=scoped scope=cpus:0",
    "mode=scoped scope=share:1/3",
    "mode=scoped scope=cgroup:/",
    f"mode=scoped scope=task:{os.getpid()}",
    "mode=scoped scope=handler",
)
MODES = (
    "mode=concurrent",
    "mode=exclusive timeout_ms=20",
    "mode=exclusive timeout_ms=2000",
    "mode=per-object",
    "mode=per-object objects=keep",
    *SCOPES,
)
"""Every mode that one can switch in, with every object rule and kind of scope."""

ENABLE = Path("/sys/module", guest.CORE, "parameters/enable")
CPUS = Path("/sys/devices/system/cpu")

SWITCH = frozenset({"", "ETIMEDOUT", guest.NOT_SUPPORTED, "EINVAL"})
"""Somebody was inside for too long; a mode that these editions have not; the active one, scoped."""

MISSING = frozenset({"", "ENOENT", "ENXIO"})
"""No such subsystem, no such edition: they come and go."""

SWITCH_ANY = SWITCH | MISSING | {"ENODEV", "ESRCH", "ECANCELED", "EPERM", "ENOTRECOVERABLE"}
"""Others take modules away, quarantine, switch off, and come first with the original."""

LOAD = frozenset({"", "EEXIST", "ENOENT", "EPERM", "EBUSY"})
UNLOAD = frozenset({"", guest.IN_USE, "ENOENT", "EBUSY"})

PARAMETERS = (
    "readahead streaming factor={}",
    "selftest b refuse_prepare={}",
    "selftest layout refuse_transfer={}",
    "selftest b prepares={}",
    "selftest b nothing={}",
    "pipe coalesce gather_max_us={}",
    "pipe adaptive gather_min_us={}",
    "pipe spin poll_max_us={}",
)
WHOLE = 0.2
"""The share of cycles that take the whole subsystem out."""

LEAST_WAIT, MOST_WAIT = 0.01, 0.3
"""Seconds for which something is away that cannot be away for long."""


# ---------------------------------------------------------------------------------- switches


def _switch(hand: Hand, tree: Tree, edition: str, how: str, allowed: frozenset[str]) -> None:
    line = f"switch {tree.name} {edition} {how}".rstrip()
    answer = hand.scene.notes.command(line)
    hand.count(f"{how.split(maxsplit=1)[0] if how else 'plain'} {line}", answer, allowed)


def switch(hand: Hand) -> None:
    """Switch in any mode, where nobody takes modules or callers away."""
    tree = hand.tree()
    mode = hand.dice.choice(hand.scene.modes)
    # Most editions have no handler.
    allowed = SWITCH | {"ESRCH"} if mode.endswith("handler") else SWITCH
    _switch(hand, tree, hand.dice.choice(tree.names()), mode, allowed)


def switch_any(hand: Hand) -> None:
    """Switch in any mode, whatever others do meanwhile."""
    tree = hand.tree()
    mode = hand.dice.choice(hand.scene.modes)
    _switch(hand, tree, hand.dice.choice(tree.names()), mode, SWITCH_ANY)


def switch_plainly(hand: Hand) -> None:
    """Switch in the mode that costs least."""
    tree = hand.tree()
    _switch(hand, tree, hand.dice.choice(tree.plain_names()), "mode=concurrent", SWITCH_ANY)


def switch_back(hand: Hand) -> None:
    """Switch to the original, which comes before whatever is under way."""
    _switch(hand, hand.tree(), "original", "", SWITCH_ANY)


# ------------------------------------------------------------------------------------ modules


def _insert(hand: Hand, module: str) -> None:
    hand.count("load", guest.answer(partial(guest.insert, module)), LOAD)


def _remove(hand: Hand, module: str, attempts: int) -> None:
    """Remove a module, looking a few times whether it is free."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(0.05)
        answer = guest.answer(partial(guest.remove, module))
        hand.count("unload", answer, UNLOAD)
        if answer != guest.IN_USE:
            return


def load_or_unload(hand: Hand) -> None:
    """Load an edition's module if it is not there, or try to remove it if it is."""
    tree = hand.dice.choice(hand.scene.movable)
    module = hand.dice.choice(list(tree.editions.values()))
    there = guest.loaded()
    if module in there:
        _remove(hand, module, 1)
    else:
        # Without what it needs it would not be loaded, and say so in many lines of the log.
        _insert(hand, module if tree.module in there else tree.module)


def rebuild(hand: Hand) -> None:
    """Take a whole subsystem out, as far as it can be, and load it again in another order."""
    tree = hand.dice.choice(hand.scene.movable)
    _switch(hand, tree, "original", "timeout_ms=2000", SWITCH_ANY)
    editions = list(tree.editions.values())
    for module in [*editions, tree.module]:
        _remove(hand, module, 40)
    hand.dice.shuffle(editions)
    _insert(hand, tree.module)
    for module in editions:
        if tree.module in guest.loaded():
            _insert(hand, module)


def cycle(hand: Hand) -> None:
    """Take one edition out and in again, or the whole subsystem. Nobody else switches it."""
    tree = hand.dice.choice(hand.scene.movable)
    if hand.dice.random() < WHOLE:
        rebuild(hand)
        return
    _switch(hand, tree, "original", "", SWITCH_ANY)
    module = hand.dice.choice(list(tree.editions.values()))
    _remove(hand, module, 40)
    if tree.module in guest.loaded():
        _insert(hand, module)


# ----------------------------------------------------------------------------- other commands


def set_parameter(hand: Hand) -> None:
    """Set a parameter: one that decides, one that is not for writing, one that is not there."""
    what = hand.dice.choice(PARAMETERS).format(hand.dice.choice([0, 0, 1, 5]))
    answer = hand.scene.notes.command(f"set {what}")
    hand.count("set", answer, MISSING | {"ESRCH", "EPERM", "EINVAL"})


def quarantine(hand: Hand) -> None:
    """Put an edition in quarantine; calls are taken away from it."""
    tree = hand.tree()
    line = f"quarantine {tree.name} {hand.dice.choice(tree.names())}"
    hand.count("quarantine", hand.scene.notes.command(line), SWITCH_ANY)


def clear(hand: Hand) -> None:
    """Take editions of a subsystem out of quarantine."""
    tree = hand.tree()
    for edition in tree.editions:
        hand.count("clear", hand.scene.notes.command(f"clear {tree.name} {edition}"), MISSING)


def ask(hand: Hand) -> None:
    """Ask who is inside, and whether a function may be gated."""
    who = hand.scene.notes.command(f"who {hand.tree().name}")
    hand.count("who", who, MISSING | {"ENODEV"})
    function = hand.dice.choice(
        ["pipe_write", "schedule", "nothing", "dynamos_target:target_value"]
    )
    checked = hand.scene.notes.command(f"check {function}")
    hand.count("check", checked, MISSING | {"EPERM", "EINVAL"})


def release(hand: Hand) -> None:
    """Give a lease back that somebody else may hold."""
    answer = hand.scene.notes.command(f"release {hand.tree().name}")
    hand.count("release", answer, MISSING | {"EBUSY"})


# -------------------------------------------------------------------------------- the machine


def turn_off_and_on(hand: Hand) -> None:
    """Switch the module off, for a moment."""
    answer = hand.scene.notes.act(OFF, partial(ENABLE.write_text, "0"))
    hand.count("off", answer, SWITCH_ANY)
    time.sleep(hand.dice.uniform(LEAST_WAIT, MOST_WAIT))
    ENABLE.write_text("1")


def unplug(hand: Hand) -> None:
    """Take a CPU away, for a moment."""
    cpus = [path for path in CPUS.glob("cpu[0-9]*/online") if path.read_text() == "1\n"]
    if not cpus:
        return
    cpu = hand.dice.choice(cpus)
    answer = guest.answer(partial(cpu.write_text, "0"))
    hand.count("unplug", answer, frozenset({"", "EBUSY"}))
    time.sleep(hand.dice.uniform(LEAST_WAIT, MOST_WAIT))
    answer = guest.answer(partial(cpu.write_text, "1"))
    hand.count("plug", answer, frozenset({"", "EBUSY"}))


def plug_all() -> None:
    """Have all CPUs there."""
    for cpu in CPUS.glob("cpu[0-9]*/online"):
        if cpu.read_text() == "0\n":
            cpu.write_text("1")


def read_everything(hand: Hand) -> None:
    """Read all of sysfs; no number of threads in flight is below zero."""
    for folder, _, names in os.walk(control.SYSFS):
        for name in names:
            path = Path(folder, name)
            answer = guest.answer(partial(_read, path))
            assert answer in {"", "ENOENT", "ENODEV"}, f"{path}: {answer}"
    hand.done["read"] += 1


def _read(path: Path) -> None:
    text = path.read_text()
    if path.name in {"in_flight", "held"}:
        assert int(text) < MOST_IN_FLIGHT, f"{path}: {text}"


# --------------------------------------------------------------------------------- processes


def let_caller_come(hand: Hand) -> None:
    """Have one more caller, and whoever sleeps in a call go on."""
    hand.done[f"caller {hand.scene.callers.let_one_come(hand.dice)}".rstrip()] += 1


def release_callers(hand: Hand) -> None:
    """Have whoever sleeps in a call go on."""
    Target().run("release all")
    hand.done["go on"] += 1


def signal_caller(hand: Hand) -> None:
    """Send a signal to a caller, wherever it is."""
    hand.done[f"caller gets {hand.scene.callers.signal_one(hand.dice)}"] += 1


def let_holder_come(hand: Hand) -> None:
    """Have one more that looks after a subsystem."""
    hand.done[f"holder {hand.scene.holders.let_one_come(hand.dice)}".rstrip()] += 1


def signal_holder(hand: Hand) -> None:
    """Send a signal to one that looks after a subsystem, whatever it is doing."""
    hand.done[f"holder gets {hand.scene.holders.signal_one(hand.dice)}"] += 1


EVERYTHING: Mapping[Action, int] = {
    switch_any: 30,
    switch_back: 6,
    load_or_unload: 10,
    rebuild: 3,
    set_parameter: 6,
    quarantine: 4,
    clear: 5,
    ask: 3,
    release: 2,
    turn_off_and_on: 2,
    unplug: 3,
    read_everything: 2,
    let_caller_come: 8,
    release_callers: 5,
    signal_caller: 6,
    let_holder_come: 6,
    signal_holder: 7,
}
"""How often each is done, compared with the others."""
