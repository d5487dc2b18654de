# SPDX-License-Identifier: GPL-2.0-or-later
"""What an inspection could not tell."""

from __future__ import annotations

from dataclasses import dataclass

from dynamosd.errors import DynamosError


@dataclass(frozen=True, slots=True)
class Missing:
    """What could not be told, why, and what to do."""

    what: str
    why: str
    hint: str


def because(what: str, error: DynamosError) -> Missing:
    """Give what is missing by an error."""
    return Missing(what, error.message, error.hint)
