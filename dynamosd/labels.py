# SPDX-License-Identifier: GPL-2.0-or-later
"""The labels of a host: what policies may ask it. Some are there by themselves."""

from __future__ import annotations

import re

HOSTNAME = "hostname"
KERNEL = "kernel"
BUILT_IN = (HOSTNAME, KERNEL)
"""The labels that every host has: its name, and the release of its kernel as in ``uname -r``."""

MAX_LABELS = 64
MAX_LENGTH = 253

_NAME = re.compile(r"[a-z]([a-z0-9_-]{0,61}[a-z0-9])?")


def check_name(name: str) -> str:
    """Return a label's name.

    Raises:
        ValueError: it is not one.
    """
    if not is_name(name):
        raise ValueError("a label has up to 63 of a-z, 0-9, _ and -, and begins with a letter")
    return name


def is_name(name: str) -> bool:
    """Tell whether a label may be called so."""
    return _NAME.fullmatch(name) is not None


def check_text(text: str) -> str:
    """Return a label's text.

    Raises:
        ValueError: it is not one.
    """
    if not 0 < len(text) <= MAX_LENGTH or not text.isprintable():
        raise ValueError(f"a label's text has 1 to {MAX_LENGTH} letters that can be printed")
    return text
