# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in the parentheses of a signal: how many arguments it takes, and of which kind."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dynamosd.hostsignals import LABEL, RESOURCE, SOURCE, STALL, WORDS
from dynamosd.policy.expression import Input
from dynamosd.signals import ARGUMENTS, EDITION, FUNCTION, NAME

_PATTERNS = {
    FUNCTION: re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}"),
    EDITION: re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"),
    NAME: re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"),
    SOURCE: re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"),
    LABEL: re.compile(r"[a-z]([a-z0-9_-]{0,61}[a-z0-9])?"),
    **{kind: re.compile("|".join(words)) for kind, words in WORDS.items()},
}
_EXAMPLES = {
    FUNCTION: "pipe_write",
    EDITION: "original",
    NAME: "pages",
    SOURCE: "queue_depth",
    LABEL: "role",
    **{kind: words[0] for kind, words in WORDS.items()},
}
_ARTICLES = {
    FUNCTION: "a function",
    EDITION: "an edition",
    NAME: "a parameter",
    SOURCE: "a source",
    LABEL: "a label",
    RESOURCE: "a resource",
    STALL: "a kind of stall",
}

LISTED = "docs/policy.md has the signals"
"""A hint for who writes a name that resembles none of theirs."""

_CALL = re.compile(r'([a-z_][a-z0-9_]*)\(\s*((?:"[^"]*"\s*,\s*)*"[^"]*")?\s*\)')
_QUOTED = re.compile(r'"([^"]*)"')


class BadArgument(ValueError):
    """An argument that is not what the signal takes; ``index`` is which one."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def usage(signal: str) -> str:
    """Return in words what a signal takes."""
    if ARGUMENTS[signal] == ((),):
        return f"{signal} takes nothing"
    forms = (" and ".join(_ARTICLES[kind] for kind in form) for form in ARGUMENTS[signal])
    return f"{signal} takes {', or '.join(forms)}, in quotes"


def example(signal: str) -> str:
    """Return a hint with the shortest way to write a signal."""
    form = ", ".join(f'"{_EXAMPLES[kind]}"' for kind in ARGUMENTS[signal][0])
    return f"e.g. {signal}({form})"


def read_of(signal: str, arguments: Sequence[object]) -> Input:
    """Return what a signal with these arguments reads.

    Raises:
        BadArgument: one of them is not what the signal takes, or their number is not.
    """
    form = next((form for form in ARGUMENTS[signal] if len(form) == len(arguments)), None)
    if form is None:
        raise BadArgument(0, usage(signal))
    named: dict[str, str] = {}
    for index, (kind, argument) in enumerate(zip(form, arguments, strict=True)):
        if not isinstance(argument, str) or not _PATTERNS[kind].fullmatch(argument):
            what = f"{_ARTICLES[kind]}'s name in quotes"
            if kind in WORDS:
                what = " or ".join(f'"{word}"' for word in WORDS[kind])
            raise BadArgument(index, f"argument {index + 1} of {signal} must be {what}")
        named[kind] = argument
    edition = named.pop(EDITION, "") or named.pop(STALL, "")
    return Input(signal, "".join(named.values()), edition)


def can_be_of_edition(read: Input) -> bool:
    """Tell whether what is read is of all editions together, and could be of one."""
    forms = ARGUMENTS.get(read.signal, ())
    return not read.edition and len(forms) > 1 and any(EDITION in form for form in forms)


def parse_read(text: str) -> Input:
    """Return what a signal reads that is written as in conditions.

    Raises:
        ValueError: it is not written like that; the text says what is wrong.
        KeyError: there is no such signal.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        raise ValueError('a signal is written such as calls_rate("pipe_write")')
    if match[1] not in ARGUMENTS:
        raise KeyError(match[1])
    return read_of(match[1], _QUOTED.findall(match[2] or ""))
