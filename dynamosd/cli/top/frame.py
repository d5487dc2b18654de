# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that fit: the head, the columns that there is room for, and what the keys do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

from dynamosd import status
from dynamosd.cli.arguments import TOP_KEYS
from dynamosd.cli.top.look import Look
from dynamosd.cli.top.measure import Picture, spark
from dynamosd.cli.top.rows import LOADED, PINNED, UNKNOWN, Row, filtered, ordered, rows_of
from dynamosd.kmod import SWITCHED_OFF
from dynamosd.model import ORIGINAL
from dynamosd.policy.durations import format_duration

GAP = 2
CUT = "+"
"""Ends what had to be cut."""

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*%#"

_THOUSAND = 1000.0
_TEN = 10.0
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Paper:
    """What it is shown on; without a ``width`` or ``height``, there is room for all."""

    width: int | None = None
    height: int | None = None
    bars: str = BARS


# -------------------------------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True)
class Column:
    """A column: as wide as its widest text if there is room, and ``least`` if there is not.

    ``sort`` is what it is sorted by; ``fixed`` is how wide it gets in place of its texts.
    """

    head: str
    text: Callable[[Row], str]
    least: int
    sort: str = ""
    right: bool = False
    fixed: int = 0
    style: Callable[[Row], str] = lambda _: ""


def _edition_style(row: Row) -> str:
    if row.mark == "!":
        return "red"
    idle = row.function and not row.mark
    return "" if idle or row.edition == ORIGINAL else "bold green"


def _policy_style(row: Row) -> str:
    held = (": paused", f": {PINNED}")
    is_held = row.policy == PINNED or any(each in row.policy for each in held)
    return "yellow" if row.wrong or is_held else ""


SUBSYSTEM = Column("SUBSYSTEM", lambda row: row.subsystem, 9, "name")
FUNCTION = Column("FUNCTION", lambda row: row.function, 9, "name")
ACTIVE = Column("ACTIVE", lambda row: row.edition + row.mark, 9, "edition", style=_edition_style)
EDITION = Column("EDITION", lambda row: row.edition + row.mark, 9, "edition", style=_edition_style)
CALLS = Column("CALLS/s", lambda row: rate_text(row.rate), 7, "calls", right=True)
MINUTE = Column("LAST 60s", lambda _: "", 8, fixed=30, style=lambda _: "cyan")
IN_FLIGHT = Column("IN FLIGHT", lambda row: str(row.in_flight), 9, "in-flight", right=True)
DRAINING = Column(
    "DRAINING",
    lambda row: str(row.draining),
    8,
    "draining",
    right=True,
    style=lambda row: "yellow" if row.draining else "",
)
SINCE = Column("SINCE", lambda row: age_text(row.since), 6, "since", right=True)
POLICY = Column("POLICY", lambda row: row.policy, 10, "policy", style=_policy_style)

WHOLE = (SUBSYSTEM, ACTIVE, CALLS, MINUTE, IN_FLIGHT, DRAINING, SINCE, POLICY)
PARTS = (SUBSYSTEM, FUNCTION, EDITION, CALLS, MINUTE, IN_FLIGHT, DRAINING)

_FIRST_WHOLE = (SUBSYSTEM, ACTIVE, CALLS, IN_FLIGHT, DRAINING, POLICY, MINUTE, SINCE)
_FIRST_PARTS = (FUNCTION, EDITION, CALLS, IN_FLIGHT, SUBSYSTEM, DRAINING, MINUTE)
"""The same, those first that stay the longest when there is little room."""

_ESSENTIAL = 4
"""How many of them are not cut for the others."""


def fit(
    columns: Sequence[Column], first: Sequence[Column], rows: Sequence[Row], room: int | None
) -> dict[str, int]:
    """Give the columns that there is room for, by their heads, and how wide each is."""
    wanted = {each.head: _wanted(each, rows) for each in columns}
    if room is None:
        return wanted
    widths: dict[str, int] = {}
    left = room
    # The first ones get all they want before there is one more.
    for some in (first[:_ESSENTIAL], first[_ESSENTIAL:]):
        for each in some:
            least = min(each.least, wanted[each.head]) + bool(widths) * GAP
            if least <= left:
                widths[each.head] = least - bool(widths) * GAP
                left -= least
        for each in some:
            if each.head in widths:
                more = min(left, wanted[each.head] - widths[each.head])
                widths[each.head] += more
                left -= more
    return {each.head: widths[each.head] for each in columns if each.head in widths}


def _wanted(column: Column, rows: Sequence[Row]) -> int:
    return max([column.fixed, len(column.head), *(len(column.text(row)) for row in rows)])


def rate_text(rate: float | None) -> str:
    """Show calls a second in at most six letters."""
    if rate is None:
        return UNKNOWN
    if 0.0 < rate < _TEN:
        return f"{rate:.1f}"
    for unit in ("", "k", "M", "G"):
        if round(rate, 1 if unit else 0) < _THOUSAND:
            break
        rate /= _THOUSAND
    return f"{rate:.1f}{unit}" if unit else f"{rate:.0f}"


def age_text(seconds: float | None) -> str:
    """Show how long ago something was."""
    if seconds is None:
        return UNKNOWN
    if math.isinf(seconds):
        return LOADED
    for unit, length, below in (("s", 1.0, _MINUTE), ("m", _MINUTE, _HOUR), ("h", _HOUR, _DAY)):
        if seconds < below:
            return f"{int(seconds / length)}{unit}"
    return f"{int(seconds / _DAY)}d"


def spark_text(values: Iterable[float | None], bars: str) -> str:
    """Draw numbers: what is highest is a whole block, and what is not known a blank."""
    known = list(values)
    highest = max((value for value in known if value), default=0.0)
    return "".join(
        " " if value is None else bars[round(value / highest * (len(bars) - 1)) if highest else 0]
        for value in known
    )


def cut(text: str, width: int) -> str:
    """Give as much of a text as there is room for."""
    return text if len(text) <= width else text[: max(0, width - 1)] + CUT


# ---------------------------------------------------------------------------------------- lines

_AROUND = 5
"""How many lines are not rows: three above the table, its head, and one below."""


def frame(picture: Picture, look: Look, paper: Paper, delay: float) -> list[Text]:
    """Give what is to be seen, no larger than the paper."""
    head = _head(picture, look, delay)
    foot = [] if paper.height is None else [_foot(look)]
    room = None if paper.height is None else max(0, paper.height - len(head) - len(foot))
    body = _help() if look.help else _table(picture, look, paper, room)
    lines = [*head, *body[:room]]
    if room is not None:
        lines += [Text()] * (room - len(body)) + foot
    for line in lines if paper.width is not None else ():
        line.truncate(paper.width or 0)
    return lines[: paper.height]


def _head(picture: Picture, look: Look, delay: float) -> list[Text]:
    at = time.strftime("%H:%M:%S", time.localtime(picture.wall))
    first = Text.assemble(("dynamosctl top", "bold"), f"  {at}  every {delay:g}s")
    if look.paused:
        first.append("  PAUSED", "bold yellow")
    if look.filter or look.typing is not None:
        first.append(f"  filter: {look.filter}", "bold")
        first.append("_" if look.typing is not None else "")
    return [first, _state(picture), Text()]


def _state(picture: Picture) -> Text:
    """Say how the module and the daemon are, and what comes of all together."""
    kernel = picture.kernel
    if kernel is None:
        return Text(f"{picture.why}; waiting for it", "bold red")
    subsystems = kernel.subsystems.values()
    rates = [rate for (_, function, _), rate in picture.rates.items() if not function]
    said = Text(f"{rate_text(sum(rates) if rates else None)} calls/s, ")
    said.append(f"{sum(each.in_flight for each in subsystems)} in flight; ")
    said.append(*_daemon(picture))
    said.append(f"; module {kernel.version}")
    if not kernel.enabled:
        said.append(f"; {SWITCHED_OFF}", "bold red")
    return said


def _daemon(picture: Picture) -> tuple[str, str]:
    """Say how the daemon is, and in which style."""
    daemon = picture.daemon
    if daemon is None:
        return "no daemon", "yellow"
    age = status.age(daemon, picture.wall)
    if age is not None and age > status.patience(daemon):
        return f"daemon {daemon['pid']} silent for {format_duration(round(age))}", "bold red"
    return f"daemon {daemon['pid']}", ""


def _help() -> list[Text]:
    return [Text.assemble((f"{keys:<9}", "bold"), what) for keys, what in TOP_KEYS]


def _foot(look: Look) -> Text:
    if look.help:
        return Text("any key: back", "reverse")
    if look.typing is not None:
        return Text("Enter: keep the filter  Escape: no filter", "reverse")
    return Text("q quit  h help  space pause  e editions  / filter  r reverse", "reverse")


def _rows(picture: Picture, look: Look) -> list[Row]:
    rows = filtered(rows_of(picture, editions=look.editions), look.filter)
    return ordered(rows, look.sort, reverse=look.reverse)


def furthest(picture: Picture, look: Look, paper: Paper) -> int:
    """Give how many rows may be scrolled away until the last one is seen."""
    room = (paper.height or 0) - _AROUND
    return max(0, len(_rows(picture, look)) - max(1, room))


def _table(picture: Picture, look: Look, paper: Paper, room: int | None) -> list[Text]:
    rows = _rows(picture, look)
    columns, first = (PARTS, _FIRST_PARTS) if look.editions else (WHOLE, _FIRST_WHOLE)
    widths = fit(columns, first, rows, paper.width)
    shown = [each for each in columns if each.head in widths]
    if room is not None:
        start = min(look.first, furthest(picture, look, paper))
        rows = rows[start : start + max(0, room - 1)]
    lines = [_line([(each.head, _heading(each, look)) for each in shown], shown, widths)]
    for row in rows:
        cells = [(_cell(each, row, picture, paper, widths), each.style(row)) for each in shown]
        lines.append(_line(cells, shown, widths))
    if not rows and picture.kernel is not None:
        lines.append(Text(_nothing(picture, look)))
    return lines


def _nothing(picture: Picture, look: Look) -> str:
    if picture.kernel and picture.kernel.subsystems and look.filter:
        return "nothing has that in its name"
    return "no subsystem is loaded: dynamosctl edition load"


def _heading(column: Column, look: Look) -> str:
    return "bold reverse" if column.sort == look.sort else "bold"


def _cell(column: Column, row: Row, picture: Picture, paper: Paper, widths: dict[str, int]) -> str:
    if column is MINUTE:
        values = spark(picture.history, row.key, picture.now, widths[column.head])
        return spark_text(values, paper.bars)
    return column.text(row)


def _line(
    cells: Sequence[tuple[str, str]], columns: Sequence[Column], widths: dict[str, int]
) -> Text:
    line = Text()
    for number, ((text, style), column) in enumerate(zip(cells, columns, strict=True)):
        width = widths[column.head]
        said = cut(text, width)
        line.append(" " * GAP if number else "")
        line.append(said.rjust(width) if column.right else said.ljust(width), style)
    line.rstrip()
    return line
