# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel with its own checkers on knows besides its log: leaks, and whether it still checks.

On a kernel that has none of them, each of these has nothing to say.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

_KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
_LOCKDEP = Path("/proc/lockdep_stats")
_YOUNGEST_LEAK = 6.0
"""Seconds: kmemleak has no opinion about what was allocated less than five of them ago."""

_OURS = re.compile(r"\[dynamos|\] 0xffffffffc[0-9a-f]{7}$", re.MULTILINE)
"""In a backtrace: one of our modules, or where one was. The kernel has all else built in."""


def leaks() -> list[str]:
    """Every leak of memory that our code allocated, as kmemleak tells of it; may take minutes.

    A first scan only notes what it has found no pointer to, and what that contains: a second one
    reports what is still so.
    """
    if not _KMEMLEAK.exists():
        return []
    time.sleep(_YOUNGEST_LEAK)
    for _ in range(2):
        _KMEMLEAK.write_text("scan")
    records = re.split(r"^(?=unreferenced object)", _KMEMLEAK.read_text(), flags=re.MULTILINE)
    return [record for record in records if _OURS.search(record)]


def locks_are_checked() -> bool:
    """Whether lockdep, if there is one, still works: it stops at its first report."""
    if not _LOCKDEP.exists():
        return True
    return re.search(r"debug_locks:\s+1$", _LOCKDEP.read_text(), re.MULTILINE) is not None
