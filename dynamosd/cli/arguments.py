# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that have a form of their own: what is wrong with one is said before it is used."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import time

from dynamosd.errors import UsageError
from dynamosd.kmod import MAX_TIMEOUT_SECONDS, MIN_TIMEOUT_SECONDS
from dynamosd.model import SwitchOptions
from dynamosd.policy.scopes import FORMS, check_scope

MODES = ("concurrent", "exclusive", "per-object", "scoped")
OBJECTS = ("migrate", "keep")
TOP_ORDERS = ("calls", "in-flight", "draining", "name", "edition", "since", "policy")
TOP_KEYS = (
    ("c f d", "sort by calls/s, in flight, draining"),
    ("n a s p", "sort by name, edition, since, policy"),
    ("r", "reverse; also the key it is sorted by"),
    ("e", "a row for each edition, or subsystem"),
    ("/", "filter: Enter keeps it, Escape ends it"),
    ("space", "pause and go on; it still measures"),
    ("arrows", "scroll; also j k PgUp PgDn Home End"),
    ("h ?", "this help"),
    ("q", "quit; also Ctrl-C"),
)
"""What the keys of `top` do."""

MIN_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 3600.0

_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{0,6})?")
_MODE_OF = {"scope": "scoped", "objects": "per-object", "timeout": "exclusive"}
"""Each of these options belongs to one mode."""

_CHOOSE_THE_MODE = frozenset({"scope", "objects"})
"""A timeout does not: it is for the case that the module takes the mode exclusive."""


def duration(text: str) -> float:
    """Give the seconds of a duration such as ``1m30s``."""
    from dynamosd.policy.durations import parse_duration  # noqa: PLC0415 - few options need it

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def stretch(text: str) -> float:
    """Give the seconds of a time that something is to last."""
    seconds = duration(text)
    if seconds <= 0.0:
        raise argparse.ArgumentTypeError(f'"{text}" is no time')
    return seconds


def delay(text: str) -> float:
    """Give the seconds of a time between two looks; a number alone is one of seconds."""
    seconds = duration(f"{round(float(text) * 1000)}ms" if _NUMBER.fullmatch(text) else text)
    if not MIN_DELAY_SECONDS <= seconds <= MAX_DELAY_SECONDS:
        raise argparse.ArgumentTypeError(f'"{text}" is not between 100ms and 1h')
    return seconds


def timeout(text: str) -> float:
    """Give the seconds of a timeout such as ``500ms``."""
    seconds = duration(text)
    if not MIN_TIMEOUT_SECONDS <= seconds <= MAX_TIMEOUT_SECONDS:
        raise argparse.ArgumentTypeError(f'"{text}" is not between 1ms and 1m')
    return seconds


def scope(text: str) -> str:
    """Check the form of a scope; whether what it names is there is the kernel module's to say."""
    try:
        return check_scope(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def moment(text: str) -> float:
    """Give the Unix time of an RFC 3339 time, or of so long ago, such as ``2h``."""
    if not text[:4].isdigit() or "-" not in text:
        return time.time() - duration(text)
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError as error:
        message = f'"{text}" is neither a time such as 2026-01-31T12:00:00Z nor a duration'
        raise argparse.ArgumentTypeError(message) from error
    if at.tzinfo is None:
        message = f'"{text}" does not say of which zone: 2026-01-31T12:00:00Z is UTC'
        raise argparse.ArgumentTypeError(message)
    return at.timestamp()


def count(text: str) -> int:
    """Give a number of things, none included."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of records')
    return int(text)


def assignment(text: str) -> tuple[str, str]:
    """Take ``NAME=VALUE`` apart."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=VALUE')
    return name, value


def switch_options(args: argparse.Namespace) -> SwitchOptions:
    """Give how to switch; --scope or --objects chooses the mode if nothing else does.

    Raises:
        UsageError: two of them do not go together.
    """
    see = "see: dynamosctl switch --help"
    mode = args.mode
    for option, its in _MODE_OF.items():
        if getattr(args, option) is None:
            continue
        if mode not in {None, its}:
            raise UsageError(f"--{option} is for mode {its}, and the mode is {mode}", hint=see)
        if option in _CHOOSE_THE_MODE:
            mode = its
    if mode == "scoped" and args.scope is None:
        raise UsageError("mode scoped needs --scope", hint=f"a scope is {FORMS}")
    return SwitchOptions(mode, args.timeout, args.scope, args.objects)
