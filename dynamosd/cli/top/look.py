# SPDX-License-Identifier: GPL-2.0-or-later
"""How somebody wants to see it, and what each key changes of that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Look:
    """What is shown and how.

    ``editions``: a row for each edition of each function. ``typing`` is the filter that is being
    typed, None when none is. ``first`` is how many rows are scrolled away.
    """

    sort: str = "calls"
    reverse: bool = False
    filter: str = ""
    editions: bool = False
    paused: bool = False
    help: bool = False
    typing: str | None = None
    first: int = 0


QUIT = "q"
PAGE = 10
"""How many rows a page is, when one scrolls by pages."""

SORT_KEYS = {
    "c": "calls",
    "f": "in-flight",
    "d": "draining",
    "n": "name",
    "a": "edition",
    "s": "since",
    "p": "policy",
}

_SCROLL = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "pageup": -PAGE,
    "pagedown": PAGE,
}

_OTHER: Mapping[str, Callable[[Look], Look]] = {
    "r": lambda look: replace(look, reverse=not look.reverse),
    "e": lambda look: replace(look, editions=not look.editions, first=0),
    "/": lambda look: replace(look, typing=look.filter),
    " ": lambda look: replace(look, paused=not look.paused),
    "escape": lambda look: replace(look, filter="", first=0),
    "h": lambda look: replace(look, help=True),
    "?": lambda look: replace(look, help=True),
    "home": lambda look: replace(look, first=0),
    "end": lambda look: replace(look, first=10**9),
}


def press(look: Look, key: str) -> Look | None:
    """Give how it looks after a key; None to leave."""
    if look.typing is not None:
        return _type(look, look.typing, key)
    if key == QUIT:
        return None
    if look.help:
        return replace(look, help=False)
    if key in SORT_KEYS:
        by = SORT_KEYS[key]
        return replace(look, sort=by, reverse=look.sort == by and not look.reverse)
    if key in _SCROLL:
        return replace(look, first=max(0, look.first + _SCROLL[key]))
    return _OTHER[key](look) if key in _OTHER else look


def _type(look: Look, text: str, key: str) -> Look:
    """Edit the filter; it counts while it is being typed."""
    match key:
        case "enter":
            return replace(look, filter=text, typing=None)
        case "escape":
            return replace(look, filter="", typing=None, first=0)
        case "backspace":
            text = text[:-1]
        case _ if len(key) == 1 and key.isprintable():
            text += key
    return replace(look, filter=text, typing=text, first=0)
