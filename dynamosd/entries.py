# SPDX-License-Identifier: GPL-2.0-or-later
"""Who holds the entries of the kernel's functions: ftrace's ``enabled_functions``, understood.

A function's line says how many use its entry, and with a letter how. Our back end ``direct`` shows
as a line below it that names the gate; ``ftrace`` shows as `redirect` of our module, but only as
long as nobody else uses the entry: then ftrace names its own list, and ``I`` is all that is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PATH = "sys/kernel/tracing/enabled_functions"
"""Below ``/``. Only root may read it."""

_FIRST = re.compile(
    r"(?P<name>[^\s(]+)(?: \[(?P<module>\S+)\])?(?: \((?P<users>\d+)\))?(?P<rest>.*)"
)
_OURS = re.compile(r"\bredirect\+\S+ \[dynamos\]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One function's entry: how many use it, and the kernel's text about it.

    ``module`` is the one that has the function, "" for the kernel itself.
    """

    users: int
    text: str
    module: str = ""

    @property
    def _is_redirected(self) -> bool:
        return "I" in self.text.split()

    @property
    def is_shared(self) -> bool:
        """Whether there are other users than a gate of ours, or one that redirects calls."""
        return self.users > 1 or (self._is_redirected and not _OURS.search(self.text))

    def has_gate(self, function: str) -> bool | None:
        """Tell whether a gate of ours is there; None when the kernel does not say."""
        if f"dynamos_gate_{function}+" in self.text or _OURS.search(self.text):
            return True
        return None if self.users > 1 and self._is_redirected else False


def parse(text: str) -> Mapping[str, Sequence[Entry]]:
    """Give the entries in use by the functions' names, of which there may be several alike."""
    found: dict[str, list[Entry]] = {}
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if line[:1].isspace() and blocks:
            blocks[-1].append(line)
        else:
            blocks.append([line])
    for block in blocks:
        if match := _FIRST.match(block[0]):
            rest = "\n".join([match["rest"], *block[1:]])
            found.setdefault(match["name"], []).append(
                Entry(int(match["users"] or 1), rest, match["module"] or "")
            )
    return found
