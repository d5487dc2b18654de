# SPDX-License-Identifier: GPL-2.0-or-later
"""Hands that do things to the module at the same time, each by its own dice, from a dealt deck."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.kernel import guest
from tests.kernel.torture.people import People
from tests.kernel.torture.record import Notes

LONGEST = 4 * guest.PATIENCE
"""Seconds that one action may take, however slow the machine: then something hangs."""

LOOK = 60
"""Seconds after which it is looked at whether it does."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A subsystem: its module, and its editions' besides `original`, by the edition's name."""

    name: str
    module: str
    editions: Mapping[str, str]

    def names(self) -> list[str]:
        """Give the names of all editions."""
        return ["original", *self.editions]

    def plain_names(self) -> list[str]:
        """Give those that have no layout of their own: one can switch to them in any mode."""
        return [name for name in self.names() if name != "layout"]


@dataclass
class Scene:
    """What hands do things to."""

    notes: Notes
    trees: Sequence[Tree]
    movable: Sequence[Tree]
    """Those of them that may be unloaded."""

    modes: Sequence[str]
    callers: People
    holders: People


@dataclass
class Hand:
    """One that does things."""

    scene: Scene
    dice: Random
    done: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    doing: str = ""
    since: float = field(default_factory=time.monotonic)

    def count(self, what: str, answer: str, allowed: frozenset[str]) -> None:
        """Note how something was answered, and fail if it may not be answered so."""
        assert answer in allowed, f"{what}: {answer}"
        self.done[what.split(maxsplit=1)[0] + (f" {answer}" if answer else "")] += 1

    def tree(self) -> Tree:
        """Pick a subsystem."""
        return self.dice.choice(self.scene.trees)


Action = Callable[[Hand], None]
Deck = Sequence[Action]


def share(weights: Mapping[Action, int], steps: int) -> dict[Action, int]:
    """Give so many steps to actions by their weights, one to each at least."""
    total = sum(weights.values())
    return {action: max(1, steps * weight // total) for action, weight in weights.items()}


def deal(cards: Mapping[Action, int], hands: int, seed: int) -> list[Deck]:
    """Shuffle so many of each action, and deal them to hands."""
    deck = [action for action, count in cards.items() for _ in range(count)]
    # The same decks for the same seed; what comes of them depends on who comes first, too.
    Random(seed).shuffle(deck)  # noqa: S311
    return [deck[hand::hands] for hand in range(hands)]


def play(scenes: Sequence[Scene], decks: Sequence[Deck], seed: int) -> Counter[str]:
    """Have each deck played by a hand, all at once; count what was done, and how it was answered.

    Each hand has a scene; it may be the same for all. The first failure ends it: it is raised when
    all hands are still.
    """
    hands = [
        Hand(scene, Random(f"{seed}/{number}"))  # noqa: S311 (to be the same for the same seed)
        for number, scene in enumerate(scenes)
    ]
    over = threading.Event()

    def play_one(hand: Hand, deck: Deck) -> None:
        # Before all the load: it is there to be in the way of what is done, not of who does it.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        for action in deck:
            if over.is_set():
                return
            hand.doing, hand.since = action.__name__, time.monotonic()
            hand.steps += 1
            try:
                action(hand)
            except BaseException:
                over.set()
                raise

    pool = ThreadPoolExecutor(len(decks))
    games = [pool.submit(play_one, hand, deck) for hand, deck in zip(hands, decks, strict=True)]
    while wait(games, timeout=LOOK).not_done:
        _watch([hand for hand, game in zip(hands, games, strict=True) if not game.done()])
    pool.shutdown()
    for game in games:
        game.result()
    return sum((hand.done for hand in hands), Counter())


def _watch(hands: Sequence[Hand]) -> None:
    """Say what those who are not done are doing; fail if one does the same for too long."""
    now = time.monotonic()
    doing = [f"step {hand.steps}, {hand.doing} for {now - hand.since:.0f} s" for hand in hands]
    print("; ".join(doing), flush=True)  # noqa: T201 (shown with pytest -s, and when it fails)
    stuck = any(now - hand.since > LONGEST for hand in hands)
    assert not stuck, f"somebody hangs:\n{_stacks()}"


def _stacks() -> str:
    """Where our threads are in the kernel."""
    return "\n".join(path.read_text() for path in Path("/proc/self/task").glob("*/stack"))
