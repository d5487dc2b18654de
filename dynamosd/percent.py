# SPDX-License-Identifier: GPL-2.0-or-later
"""Shares that are written in per cent, such as ``2.5%``."""

from __future__ import annotations

import re

PERCENT_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,3})?%$"
FINE_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,4})?%$"
"""One digit more, for what is far below one per cent."""


def parse_percent(value: object, pattern: str = PERCENT_PATTERN) -> float | None:
    """Give a share as a part of 1; None if it is not written so. It may be more than 1."""
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        return None
    return float(value.removesuffix("%")) / 100.0
