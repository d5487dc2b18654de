# SPDX-License-Identifier: GPL-2.0-or-later
"""Draws what a policy did with a recording, as SVG.

From the top: the editions that were active, a strip for each policy; then each value that the
policy reads, with the numbers that its rules compare it with, over the time since the beginning.
The background shows where a rule was pending and where the policy was in its cooldown or frozen,
the gaps in a line where there was no usable value. Whatever is drawn has its words in a <title>,
which browsers show at the pointer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape

from dynamosd.journal import rfc3339
from dynamosd.model import PolicyPhase
from dynamosd.policy.definition import Policy
from dynamosd.policy.durations import format_duration, format_number
from dynamosd.policy.regions import bounds
from dynamosd.replay import Evaluation, Replayed

WIDTH = 1000
_LEFT, _RIGHT, _TOP = 90, 20, 40
_STRIP, _PANEL, _GAP = 28, 120, 34
_INNER = WIDTH - _LEFT - _RIGHT

# Okabe and Ito's colours, which people tell apart whatever colours they see; the baseline is grey.
_BASELINE = "#bbbbbb"
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_LINE, _TEXT, _FRAME = "#222222", "#333333", "#999999"

_SHADES: Mapping[PolicyPhase, tuple[str, str]] = {
    PolicyPhase.PENDING: ("#fff3bf", "pending"),
    PolicyPhase.COOLDOWN: ("#e3e8ee", "cooldown"),
    PolicyPhase.FROZEN: ("#c5d0dc", "frozen"),
}

_STEPS = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
"""Seconds between two marks on the axis of time; from the last on, it is days."""

_MAX_MARKS = 10
_DAY = 86400

Point = tuple[float, float | None]


def draw(made: Replayed, other: Replayed | None = None) -> str:
    """Return the picture of a replay, and of another one of the same recording below it."""
    replays = [made, *([other] if other else [])]
    times = [each.wall for replay in replays for each in replay.evaluations]
    begin, end = (min(times), max(times)) if times else (0.0, 0.0)
    scale = _Scale(begin, end)
    parts = [f'<text x="{_LEFT}" y="20" class="head">{escape(_title(replays, begin, end))}</text>']
    top = _TOP
    colours = _colours(replays)
    for replay in replays:
        parts += _strip(replay, scale, top, colours)
        top += _STRIP + 8
    top += _GAP - 8
    for name in made.policy.names:
        points = [(each.wall, each.decision.readings.get(name)) for each in made.evaluations]
        parts += _panel(name, points, made, scale, top)
        top += _PANEL + _GAP
    parts += _axis(scale, top - _GAP)
    parts += _legend(colours, top)
    return _document(parts, top + 30)


class _Scale:
    """From Unix times to the picture's columns."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end
        self._factor = _INNER / ((end - begin) or 1.0)

    def x(self, wall: float) -> float:
        return _LEFT + (min(max(wall, self.begin), self.end) - self.begin) * self._factor


def _title(replays: Sequence[Replayed], begin: float, end: float) -> str:
    names = " and ".join(replay.policy.file for replay in replays)
    return f"{names}: {rfc3339(begin)}, {format_duration(end - begin)}"


def _colours(replays: Iterable[Replayed]) -> dict[str, str]:
    """Give each edition its colour."""
    found: dict[str, str] = {}
    for replay in replays:
        found.setdefault(replay.policy.baseline, _BASELINE)
        for edition in (*replay.policy.editions[1:], *replay.seconds):
            used = sum(colour != _BASELINE for colour in found.values())
            found.setdefault(edition, _COLOURS[used % len(_COLOURS)])
    return found


# ------------------------------------------------------------------------------------- parts


def _strip(replay: Replayed, scale: _Scale, top: int, colours: Mapping[str, str]) -> Iterator[str]:
    """Draw which editions were active."""
    label = escape(replay.policy.name)
    yield f'<text x="{_LEFT - 6}" y="{top + 18}" class="label">{label}</text>'
    for span in replay.spans:
        left, right = scale.x(span.begin), scale.x(span.end)
        words = f"{span.edition}: {rfc3339(span.begin)}, {format_duration(span.end - span.begin)}"
        yield _box(_Area(left, top, right - left, _STRIP), colours[span.edition], words)
        if right - left > 7 * len(span.edition) + 8:
            text = escape(span.edition)
            yield f'<text x="{left + 4:.1f}" y="{top + 18}" class="in">{text}</text>'
    for switch in replay.switches:
        x = scale.x(switch.wall)
        words = f"{rfc3339(switch.wall)} {switch.origin} -> {switch.target}: {switch.reason}"
        yield _line((x, top - 3), (x, top + _STRIP + 3), _SWITCH, words)


def _panel(
    name: str, points: Sequence[Point], replay: Replayed, scale: _Scale, top: int
) -> Iterator[str]:
    """Draw a value over time, with what it is compared with."""
    limits = sorted(set(_limits(replay.policy, name)))
    known = [value for _, value in points if value is not None and math.isfinite(value)]
    low = min([0.0, *known, *(number for number, _ in limits)])
    high = max([*known, *(number for number, _ in limits)], default=1.0)
    span = (high - low) or 1.0

    def y(value: float) -> float:
        return top + _PANEL - (min(max(value, low), high) - low) / span * _PANEL

    yield f'<text x="{_LEFT}" y="{top - 6}" class="head">{escape(name)}</text>'
    yield from _shades(replay.evaluations, scale, top)
    yield _frame(top)
    for value, place in ((high, top + 10), (low, top + _PANEL)):
        text = escape(format_number(value))
        yield f'<text x="{_LEFT - 6}" y="{place}" class="label">{text}</text>'
    for number, words in limits:
        yield _line((_LEFT, y(number)), (WIDTH - _RIGHT, y(number)), _LIMIT, words)
    for piece in _pieces(points, scale):
        line = " ".join(f"{x:.1f},{y(value):.1f}" for x, value in piece)
        yield f'<polyline points="{line}" class="value"/>'


def _limits(policy: Policy, name: str) -> Iterator[tuple[float, str]]:
    """Yield the numbers that rules compare a value with, and where."""
    for rule in policy.rules:
        for word, condition in (("when", rule.when), ("until", rule.until)):
            for found in bounds(condition) if condition else ():
                if found is not None and found[0].text == name:
                    yield found[1], f"{format_number(found[1])}: {word} of rule {rule.name}"


def _shades(evaluations: Sequence[Evaluation], scale: _Scale, top: int) -> Iterator[str]:
    """Draw where something kept the policy from switching, one box for each stretch."""
    open_: tuple[PolicyPhase, float, float] | None = None
    for first, second in pairwise(evaluations):
        phase = first.decision.phase
        if open_ and (phase is not open_[0] or first.wall != open_[2]):
            yield from _shade(open_, scale, top)
            open_ = None
        if phase in _SHADES:
            open_ = (phase, open_[1] if open_ else first.wall, second.wall)
    if open_:
        yield from _shade(open_, scale, top)


def _shade(found: tuple[PolicyPhase, float, float], scale: _Scale, top: int) -> Iterator[str]:
    colour, words = _SHADES[found[0]]
    left = scale.x(found[1])
    yield _box(_Area(left, top, scale.x(found[2]) - left, _PANEL), colour, words)


def _pieces(points: Sequence[Point], scale: _Scale) -> Iterator[list[tuple[float, float]]]:
    """Yield lines without gaps: of many points in one column only the least and the greatest."""
    piece: list[tuple[float, float]] = []
    for wall, value in points:
        if value is None or not math.isfinite(value):
            if piece:
                yield piece
            piece = []
            continue
        x = scale.x(wall)
        if len(piece) > 1 and int(piece[-2][0]) == int(x):
            piece[-2:] = _least_and_greatest((*piece[-2:], (x, value)))
        else:
            piece.append((x, value))
    if piece:
        yield piece if len(piece) > 1 else [piece[0], (piece[0][0] + 1.0, piece[0][1])]


def _least_and_greatest(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    ordered = sorted(points, key=lambda point: point[1])
    return sorted((ordered[0], ordered[-1]))


def _axis(scale: _Scale, top: int) -> Iterator[str]:
    """Mark the time since the beginning."""
    length = scale.end - scale.begin
    days = _DAY * math.ceil(length / _DAY / _MAX_MARKS)
    step = next((each for each in _STEPS if length / each <= _MAX_MARKS), days)
    for number in range(int(length / step) + 1):
        x = scale.x(scale.begin + number * step)
        label = escape(format_duration(number * step))
        yield f'<path d="M{x:.1f} {top}v5" stroke="{_FRAME}"/>'
        yield f'<text x="{x:.1f}" y="{top + 18}" class="time">{label}</text>'


def _legend(colours: Mapping[str, str], top: int) -> Iterator[str]:
    x = _LEFT
    shades = {words: colour for colour, words in _SHADES.values()}
    for words, colour in {**colours, **shades}.items():
        yield _box(_Area(x, top, 14, 14), colour, words)
        yield f'<text x="{x + 20}" y="{top + 12}" class="in">{escape(words)}</text>'
        x += 36 + 8 * len(words)


# ------------------------------------------------------------------------------------ elements


class _Area(NamedTuple):
    x: float
    y: float
    width: float
    height: float


class _Look(NamedTuple):
    colour: str
    width: float
    dash: str = "none"


def _box(area: _Area, colour: str, words: str) -> str:
    place = f'x="{area.x:.1f}" y="{area.y:.1f}"'
    size = f'width="{max(area.width, 0.5):.1f}" height="{area.height:.1f}"'
    return f'<rect {place} {size} fill="{colour}"><title>{escape(words)}</title></rect>'


def _frame(top: int) -> str:
    return f'<rect x="{_LEFT}" y="{top}" width="{_INNER}" height="{_PANEL}" class="frame"/>'


def _line(start: tuple[float, float], end: tuple[float, float], look: _Look, words: str) -> str:
    ends = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    style = f'stroke="{look.colour}" stroke-width="{look.width}" stroke-dasharray="{look.dash}"'
    return f"<line {ends} {style}><title>{escape(words)}</title></line>"


_SWITCH = _Look(_LINE, 1.5)
_LIMIT = _Look("#d55e00", 1.0, "5 4")

_STYLE = f"""\
text {{ font: 12px sans-serif; fill: {_TEXT}; }} .label {{ text-anchor: end; }}
.head {{ font-weight: bold; }} .in {{ fill: #000000; }}
.time {{ text-anchor: middle; font-size: 11px; }}
.frame {{ fill: none; stroke: {_FRAME}; }}
.value {{ fill: none; stroke: {_LINE}; stroke-width: 1.3; }}"""


def _document(parts: Iterable[str], height: int) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">'
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", ground, *parts, "</svg>", ""])
