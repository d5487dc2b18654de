# SPDX-License-Identifier: GPL-2.0-or-later
"""Draw a run as an SVG: signals, bands for the active edition, marks for the switches. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from textwrap import wrap

from tests.demo.model import Phase, Point, Run, read_per_asked

WIDTH, LEFT, RIGHT = 1000, 90, 20
PLOT = WIDTH - LEFT - RIGHT
ROW, GAP, TOP = 110, 46, 118
COLORS = {"original": "#d7dde4", "random": "#bfe3d0", "streaming": "#cfd8f7"}
OTHER = "#eee2c6"
INK, LINE, HELD, MARK = "#1d2630", "#1f5fbf", "#b04a2f", "#8a1c4a"

Series = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One row: a title, its series (colour, points) and the top of its scale."""

    title: str
    series: tuple[tuple[str, Series], ...]
    top: float
    logarithmic: bool = False

    def height(self, value: float) -> float:
        """Where a value lies between the bottom (0) and the top (1) of the row."""
        if self.logarithmic:
            value, top = math.log10(max(value, 0.1) / 0.1), math.log10(self.top / 0.1)
        else:
            top = self.top
        return min(max(value / top, 0.0), 1.0)


def draw(adaptive: Run, original: Run) -> str:
    """Return the whole picture as text."""
    points = [point for phase in adaptive.phases.values() for point in phase.points]
    began, ended = points[0].time, points[-1].time
    scale = PLOT / max(ended - began, 1.0)

    def x(time: float) -> float:
        return LEFT + (time - began) * scale

    charts = _charts(adaptive, original)
    height = TOP + len(charts) * (ROW + GAP) + 24 + 18 * len(_reasons(adaptive))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 24, "readahead switches itself", font_size=18),
        *_legend({point.seen.active for point in points}),
    ]
    bottom = TOP + len(charts) * (ROW + GAP) - GAP
    parts += _bands(points, x, bottom)
    parts += _phases(adaptive.phases.values(), x, bottom)
    for index, chart in enumerate(charts):
        parts += _row(chart, TOP + index * (ROW + GAP), x)
    parts += _marks(adaptive, x, bottom)
    parts += _axis(began, ended, x, bottom)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _charts(adaptive: Run, original: Run) -> list[Chart]:
    phases = list(adaptive.phases.values())
    calls = [pair for phase in phases for pair in _calls_rate(phase.points)]
    share = [
        (point.time, point.seen.sequential_share)
        for phase in phases
        for point in phase.points
        if point.seen.sequential_share is not None
    ]
    in_flight = [
        (p.time, float(sum(p.seen.in_flight.values()))) for phase in phases for p in phase.points
    ]
    ratio = [pair for phase in phases for pair in _ratios(phase.points)]
    return [
        Chart(
            "bytes read per byte asked (red: `original` held, same phase)",
            _with_held(adaptive, original, ratio),
            40.0,
            logarithmic=True,
        ),
        Chart("calls of page_cache_ra_order per second", ((LINE, calls),), _top(calls)),
        Chart("sequential share of its calls", ((LINE, share),), 1.0),
        Chart("threads in flight", ((LINE, in_flight),), max(4.0, _top(in_flight))),
    ]


def _with_held(adaptive: Run, original: Run, ratio: Series) -> tuple[tuple[str, Series], ...]:
    """Lay the held run's mean over the adaptive run's phase of the same name."""
    held: list[tuple[str, Series]] = []
    for name, phase in original.phases.items():
        mean = read_per_asked(phase.disk, phase.asked)
        if mean is not None and name in adaptive.phases:
            other = adaptive.phases[name]
            held.append((HELD, [(other.began, mean), (other.ended, mean)]))
    return (*held, (LINE, ratio))


def _calls_rate(points: Sequence[Point]) -> Iterable[tuple[float, float]]:
    name = "page_cache_ra_order"
    for last, now in pairwise(points):
        yield (
            now.time,
            (now.seen.calls[name] - last.seen.calls[name]) / max(now.time - last.time, 1e-3),
        )


def _ratios(points: Sequence[Point]) -> Iterable[tuple[float, float]]:
    for last, now in pairwise(points):
        ratio = read_per_asked(now.disk - last.disk, now.asked - last.asked)
        if ratio is not None:
            yield now.time, ratio


def _top(series: Series) -> float:
    """Find the next of 1, 2, 5, 10, 20, ... above all values."""
    most = max((value for _, value in series), default=1.0)
    power = 10.0 ** math.floor(math.log10(max(most, 1.0)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most)


def _text(x: float, y: float, text: str, **attributes: object) -> str:
    """Attribute names are SVG's, with underscores for dashes."""
    given = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    given = given if "font_size" in attributes else f'{given} font-size="12"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{given}>{escape(text)}</text>'


def _legend(editions: Iterable[str]) -> list[str]:
    parts, x = [_text(LEFT, 46, "active edition:")], LEFT + 95.0
    for name in sorted(editions):
        parts.append(
            f'<rect x="{x}" y="36" width="14" height="12" fill="{COLORS.get(name, OTHER)}"/>'
        )
        parts.append(_text(x + 20, 46, name))
        x += 40 + 8 * len(name)
    return parts


def _bands(points: Sequence[Point], x: Callable[[float], float], bottom: float) -> list[str]:
    """One rectangle for each stretch of time with the same active edition."""
    parts, start = [], points[0]
    for last, now in zip(points, [*points[1:], None], strict=True):
        if now is not None and now.seen.active == start.seen.active:
            continue
        end = now or last
        color = COLORS.get(start.seen.active, OTHER)
        parts.append(
            f'<rect x="{x(start.time):.1f}" y="{TOP}" width="{x(end.time) - x(start.time):.1f}" '
            f'height="{bottom - TOP}" fill="{color}">'
            f"<title>{escape(start.seen.active)}</title></rect>"
        )
        start = end
    return parts


def _phases(phases: Iterable[Phase], x: Callable[[float], float], bottom: float) -> list[str]:
    parts = []
    for phase in phases:
        at = x(phase.began)
        parts.append(f'<path d="M{at:.1f} {TOP - 44}V{bottom}" stroke="{INK}" stroke-width="0.5"/>')
        parts.append(_text(at + 4, TOP - 32, phase.name))
    return parts


def _row(chart: Chart, top: float, x: Callable[[float], float]) -> list[str]:
    bottom = top + ROW
    parts = [
        _text(LEFT + 4, top - 8, chart.title, fill="#414c58"),
        f'<path d="M{LEFT} {top}V{bottom}H{WIDTH - RIGHT}" stroke="{INK}" fill="none"/>',
        _text(LEFT - 6, top + 10, f"{chart.top:g}", text_anchor="end"),
        _text(LEFT - 6, bottom, "0.1" if chart.logarithmic else "0", text_anchor="end"),
    ]
    if chart.logarithmic:
        for value in (1.0, 10.0):
            y = bottom - chart.height(value) * ROW
            parts.append(
                f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-width="0.4"/>'
            )
            parts.append(_text(LEFT - 6, y + 4, f"{value:g}", text_anchor="end"))
    for color, series in chart.series:
        path = " ".join(
            f"{x(time):.1f},{bottom - chart.height(value) * ROW:.1f}" for time, value in series
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>')
    return parts


def _marks(run: Run, x: Callable[[float], float], bottom: float) -> list[str]:
    parts = []
    for number, switch in enumerate(run.switches, 1):
        at = x(switch.time)
        parts.append(
            f'<path d="M{at:.1f} {TOP}V{bottom}" stroke="{MARK}" stroke-width="1.5" '
            f'stroke-dasharray="4 3"/>'
        )
        parts.append(_text(at + 3, TOP + 24, str(number), fill=MARK, font_size=13))
    for line, text in enumerate(_reasons(run), 1):
        parts.append(_text(LEFT, bottom + 36 + 18 * line, text, fill=MARK))
    return parts


def _reasons(run: Run) -> list[str]:
    """Each switch in words, in lines that fit."""
    texts = (
        f"{number}. {switch.origin} → {switch.target}: {switch.reason}"
        for number, switch in enumerate(run.switches, 1)
    )
    return [line for text in texts for line in wrap(text, 132, subsequent_indent="    ")]


def _axis(began: float, ended: float, x: Callable[[float], float], bottom: float) -> list[str]:
    step = next(
        one for one in (5, 10, 20, 30, 60, 120, 600) if (ended - began) / one <= 16 or one == 600
    )
    ticks = range(0, int(ended - began) + 1, step)
    return [
        _text(x(began + tick), bottom + 16, f"{tick} s", text_anchor="middle") for tick in ticks
    ]
