# SPDX-License-Identifier: GPL-2.0-or-later
"""Scopes as one writes them: which calls an edition gets (mode ``scoped`` of docs/abi.md)."""

from __future__ import annotations

import re

FORMS = "cpus:LIST, task:PID, cgroup:PATH, share:1/N or handler"
"""All of them."""

MAX_SHARE = 1_000_000

_SCOPE = re.compile(
    r"cpus:\d+(-\d+)?(,\d+(-\d+)?)*|task:\d{1,10}|cgroup:/[!#-~]*|share:1/(?P<share>\d{1,7})|handler",
    re.ASCII,
)


def check_scope(text: str) -> str:
    """Check the form of a scope; whether what it names is there is the kernel module's to say.

    Raises:
        ValueError: it is not one; the text says so.
    """
    match = _SCOPE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a scope: {FORMS}')
    if match["share"] and not 1 <= int(match["share"]) <= MAX_SHARE:
        raise ValueError(f'"{text}": N is between 1 and {MAX_SHARE}')
    return text


def one_in(scope: str) -> int | None:
    """Return N of a scope that is one call in N; None for another one."""
    match = _SCOPE.fullmatch(scope)
    return int(match["share"]) if match and match["share"] else None
