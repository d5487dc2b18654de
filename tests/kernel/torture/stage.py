# SPDX-License-Identifier: GPL-2.0-or-later
"""From an untouched kernel to one that is full of editions, and back: nothing must be left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path

from tests.kernel import control, guest
from tests.kernel.torture import actions, machine, people, record
from tests.kernel.torture.hands import Scene, Tree
from tests.kernel.torture.people import People
from tests.kernel.torture.record import Notes, Recorder

READAHEAD = Tree(
    "readahead",
    guest.SUBSYSTEM,
    {"random": guest.RANDOM, "streaming": guest.STREAMING},
)
SELFTEST = Tree(
    "selftest",
    guest.SELFTEST,
    {
        "b": guest.SELFTEST_B,
        "c": guest.SELFTEST_C,
        "layout": guest.SELFTEST_LAYOUT,
        "handler": guest.SELFTEST_HANDLER,
    },
)
PIPE = Tree(
    "pipe",
    "dynamos_pipe",
    {
        "b": "dynamos_selftest_pipe_b",
        "coalesce": "dynamos_pipe_coalesce",
        "spin": "dynamos_pipe_spin",
        "adaptive": "dynamos_pipe_adaptive",
    },
)
RECLAIM = Tree("reclaim", "dynamos_reclaim", {"foreground": "dynamos_reclaim_foreground"})
SPINNING = Tree("spinning", "dynamos_spinning", {"no_spin": "dynamos_spinning_no_spin"})
PLACEMENT = Tree("placement", "dynamos_placement", {"sticky": "dynamos_placement_sticky"})

GATED = {
    READAHEAD.name: guest.FUNCTIONS,
    PIPE.name: (
        "alloc_pipe_info",
        "free_pipe_info",
        "pipe_read",
        "pipe_release",
        "pipe_write",
    ),
    RECLAIM.name: ("folio_referenced",),
    SPINNING.name: ("mutex_spin_on_owner",),
    PLACEMENT.name: ("select_task_rq_fair",),
}
ENTRIES = tuple(chain.from_iterable(GATED.values()))
"""The functions of the kernel itself that are gated: their text is compared."""

CALLERS, HOLDERS = 4, 3


def _load(trees: Sequence[Tree]) -> None:
    guest.insert(guest.TARGET)
    for tree in trees:
        for module in (tree.module, *tree.editions.values()):
            guest.insert(module)


def calm(scene: Scene) -> None:
    """End whatever goes on, and have everything at the original, drained, without a lease."""
    scene.callers.end()
    scene.holders.end()
    actions.plug_all()
    actions.ENABLE.write_text("1")
    guest.let_callers_go()
    for tree in scene.trees:
        subsystem = control.Controlled(tree.name)
        if subsystem.folder.exists():
            _calm_one(scene, subsystem)


def _calm_one(scene: Scene, subsystem: control.Controlled) -> None:
    there = subsystem.read()
    for edition in there.editions:
        scene.notes.command(f"clear {subsystem.name} {edition}")
    no_lease = partial(_is, subsystem, "lease", "none")
    guest.wait_until(no_lease, f"{subsystem.name} has no lease")
    back = f"switch {subsystem.name} original timeout_ms=60000"
    answer = scene.notes.command(back)
    assert not answer, f"{back}: {answer}, and it was at {there.active}, {there.partial}"
    assert (subsystem.active(), subsystem.partial()) == ("original", "none")
    guest.wait_until(partial(_is, subsystem, "held", "0"), "nobody is held")
    for edition in there.editions:
        if edition != "original":
            idle = partial(_is, subsystem, f"editions/{edition}/state", "idle")
            guest.wait_until(idle, f"{subsystem.name} {edition} is idle")


def _is(subsystem: control.Controlled, path: str, value: str) -> bool:
    return subsystem.value(path) == value


def _complete(trees: Sequence[Tree]) -> None:
    """Load what is missing: what was refused while the module was off, or is out just now."""
    there = guest.loaded()
    for tree in trees:
        for module in (tree.module, *tree.editions.values()):
            if module not in there:
                guest.insert(module)


@contextmanager
def stage(
    folder: Path, trees: Sequence[Tree], movable: Sequence[Tree], modes: Sequence[str]
) -> Iterator[Scene]:
    """Load everything, record it all, and give what things are done to; in the end, compare.

    The modules can be unloaded then; the kernel's text, ftrace's list and the processes are as
    they were; and every event and every answer fits the invariants.
    """
    guest.unload_all()
    text, traced = machine.entries(ENTRIES), guest.enabled_functions()
    guest.insert(guest.CORE)
    with Recorder(folder / "events") as recorder:
        _load(trees)
        _check_gated(trees, text)
        notes = Notes()
        holder = people.holder([tree.name for tree in movable])
        callers, holders = People(CALLERS, people.caller), People(HOLDERS, holder)
        scene = Scene(notes, trees, movable, modes, callers, holders)
        try:
            yield scene
            calm(scene)
        except BaseException:
            record.keep(recorder.events(), notes)
            with suppress(AssertionError, OSError):
                calm(scene)
            raise
        _complete(trees)
        guest.unload_all(guest.CORE)
        record.check(recorder.events(), notes)
    guest.remove_when_free(guest.CORE)
    assert machine.entries(ENTRIES) == text
    assert guest.enabled_functions() == traced


def _check_gated(trees: Sequence[Tree], text: machine.Entries) -> None:
    """That the text is another one now shows that comparing it means something."""
    gated = machine.entries(ENTRIES)
    for tree in trees:
        for function in GATED.get(tree.name, ()):
            assert gated[function] != text[function], f"{function} has no gate"
