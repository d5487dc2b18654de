# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is, as far as the module's events tell: subsystems, editions, who is active. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

ORIGINAL = "original"
PER_OBJECT = "per-object"


class Text(enum.Enum):
    """Whether an edition's code may be executed."""

    IDLE = "nobody is in it, and nobody gets in"
    CALLABLE = "new calls get it"
    LEFT = "no new call gets it, and nobody has said yet that it has drained"


class Lease(enum.Enum):
    """What stands of a subsystem's lease."""

    NONE = "none"
    HELD = "held"
    LOST = "lost"
    EXPIRED = "its grace is over; when the baseline is reached it ends without an event"


@dataclass
class Edition:
    """One edition of a subsystem."""

    module: str
    text: Text = Text.IDLE
    complained: bool = False
    quarantined: bool = False


@dataclass
class Subsystem:
    """One subsystem, from its registration on."""

    name: str
    editions: dict[str, Edition] = field(default_factory=lambda: {ORIGINAL: Edition("")})
    gates: dict[str, str] = field(default_factory=dict)
    active: str = ORIGINAL
    partial: str | None = None
    mode: str = ""
    lease: Lease = Lease.NONE
    holder: str = ""
    in_doubt: str | None = None
    """A partial edition that was put in quarantine: the next switch has to explain that."""
    owed: frozenset[str] = frozenset()
    """An expired lease's baseline, and what may take its place: one has to become active."""

    def is_callable(self, edition: str) -> bool:
        """Tell whether new calls get it."""
        return len(self.editions) > 1 and edition in {self.active, self.partial}

    def stand(self, active: str, partial: str | None, mode: str) -> None:
        """Take a new standing: who was callable and is not any more has been left."""
        self.active, self.partial, self.mode = active, partial, mode
        self.update_texts()
        if active in self.owed and partial is None:
            self.owed = frozenset()

    def update_texts(self) -> None:
        """Bring each edition's text up to date with who is callable."""
        for name, edition in self.editions.items():
            if self.is_callable(name):
                edition.text, edition.complained = Text.CALLABLE, False
            elif edition.text is Text.CALLABLE:
                edition.text = Text.LEFT
