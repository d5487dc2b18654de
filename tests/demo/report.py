# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo's figures mean, and whether they are good enough. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tests.demo.model import Phase, Run, read_per_asked

RANDOM_WHOLE_AT_MOST = 3.0
RANDOM_AFTER_AT_MOST = 1.2
RANDOM_ORIGINAL_AT_LEAST = 8.0
SWITCHES_AT_LEAST = 2
NOISE_AT_LEAST = 0.10
"""fio tells its progress once a second: a phase of half a minute cannot be timed better than to a
few per cent."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be true, with the figures it was judged by."""

    text: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Tell whether every check passed."""
        return all(check.passed for check in self.checks)


def after_switch(phase: Phase, edition: str) -> float | None:
    """Bytes read per byte asked while ``edition`` was active, to the end of the phase.

    One point more is left out: what the last edition had asked the disk for may still be on its
    way.
    """
    points = [point for point in phase.points if point.seen.active == edition][1:]
    if len(points) < 2:
        return None
    return read_per_asked(points[-1].disk - points[0].disk, points[-1].asked - points[0].asked)


def noise(phase: Phase) -> float:
    """How much the throughput of a phase's thirds differs, as a share of the whole.

    At least NOISE_AT_LEAST, because fio's reports are no finer.
    """
    moving = [point for point in phase.points if point.asked]
    third = len(moving) // 3
    if not third or not phase.throughput:
        return NOISE_AT_LEAST
    marks = [moving[0], moving[third], moving[2 * third], moving[-1]]
    speeds = [
        (later.asked - earlier.asked) / max(later.busy - earlier.busy, 1e-3)
        for earlier, later in pairwise(marks)
    ]
    return max(NOISE_AT_LEAST, (max(speeds) - min(speeds)) / phase.throughput)


def judge(adaptive: Run, original: Run) -> Verdict:
    """Compare the run that switched with the one that did not."""
    targets = [switch.target for switch in adaptive.switches]
    whole = _ratio(adaptive.phases["random"])
    after = after_switch(adaptive.phases["random"], "random")
    before = _ratio(original.phases["random"])
    fast, base = adaptive.phases["sequential"].throughput, original.phases["sequential"].throughput
    allowed = noise(original.phases["sequential"])
    return Verdict(
        (
            Check(
                f"switched by itself {len(targets)} times (at least {SWITCHES_AT_LEAST}): "
                "original → " + " → ".join(targets or ["(never)"]),
                len(targets) >= SWITCHES_AT_LEAST
                and "random" in targets
                and targets[-1] == "original",
            ),
            Check(
                f"random, `original` held: {show(before)} bytes read per byte asked (at least "
                f"{RANDOM_ORIGINAL_AT_LEAST:g}, or there is nothing to gain)",
                before is not None and before >= RANDOM_ORIGINAL_AT_LEAST,
            ),
            Check(
                f"random, adaptive, whole phase: {show(whole)} (at most {RANDOM_WHOLE_AT_MOST:g})",
                whole is not None and whole <= RANDOM_WHOLE_AT_MOST,
            ),
            Check(
                f"random, adaptive, after the switch: {show(after)} "
                f"(at most {RANDOM_AFTER_AT_MOST:g})",
                after is not None and after <= RANDOM_AFTER_AT_MOST,
            ),
            Check(
                f"sequential: {fast / 1e6:.2f} MB/s, `original` {base / 1e6:.2f} MB/s (no slower "
                f"than by the noise, {allowed:.0%}: how much the thirds of the original's phase "
                f"differ, at least {NOISE_AT_LEAST:.0%})",
                fast >= base * (1 - allowed),
            ),
        )
    )


def summary(adaptive: Run, original: Run, verdict: Verdict) -> str:
    """Say it in a screenful."""
    lines = ["", "== summary", f"{'phase':12} {'':10} {'read/asked':>10} {'MB/s':>8}"]
    for name in ("random", "sequential"):
        for run in (original, adaptive):
            phase = run.phases[name]
            lines.append(
                f"{name:12} {run.name:10} {show(_ratio(phase)):>10} {phase.throughput / 1e6:8.2f}"
            )
    lines += ["", "switches:"]
    lines += [f"  {one.origin} → {one.target}: {one.reason}" for one in adaptive.switches] or [
        "  none"
    ]
    lines.append("")
    lines += [f"  {'ok  ' if check.passed else 'FAIL'}  {check.text}" for check in verdict.checks]
    gain = adaptive.phases["random"].throughput / max(original.phases["random"].throughput, 1.0)
    lines.append(f"\nrandom reads went {gain:.1f} times as fast; timeline: demo-out/timeline.svg")
    lines.append("demo: passed" if verdict.passed else "demo: FAILED")
    return "\n".join(lines)


def _ratio(phase: Phase) -> float | None:
    return read_per_asked(phase.disk, phase.asked)


def show(value: float | None) -> str:
    """Print a ratio, or a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"
