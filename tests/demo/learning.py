# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of a policy that finds out itself which edition is best; runs as root on the machine.

It is told what to want and what to try, and nothing of access patterns. The shipped policy advises;
here it enforces. What counts is which edition is in use in the second half of each phase.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.demo import fio, machine, scenario
from tests.demo.model import Phase, Run
from tests.demo.report import Check, Verdict

POLICY = scenario.POLICIES / "readahead-objective.yaml"
ADVISES, ENFORCES = "  mode: advise\n", "  mode: enforce\n"

PHASE_SECONDS = 120
"""Longer than trials of all editions take, twice over: there may be one more round."""

RANDOM = ("--ioengine=mmap", "--rw=randread", "--randrepeat=1")
SEQUENTIAL = ("--ioengine=mmap", "--rw=read")
LASTING = ("--time_based", f"--runtime={PHASE_SECONDS}")

BEST_SHARE_AT_LEAST = 0.75
"""Of the second half of a phase. The rest is for what the policy may still try."""


def write_config(folder: Path) -> Path:
    """Write a configuration whose only policy is the shipped one, enforcing."""
    text = POLICY.read_text()
    if ADVISES not in text:
        raise machine.DemoError(f"{POLICY} does not advise")
    (folder / POLICY.name).write_text(text.replace(ADVISES, ENFORCES))
    return folder


def run(data: Path, disk: machine.BlockDevice, config: Path, journal: Path) -> Run:
    """Let the daemon find the best edition for random reads, and then for sequential ones."""
    began = time.monotonic()
    with machine.daemon(config, journal, scenario.say):
        scenario.say(scenario.HEADER)
        recorder = scenario.Recorder("learning", disk, machine.observe_metrics, began)
        recorder.phase("random", scenario.reading(data, (*RANDOM, *LASTING)))
        recorder.phase("sequential", scenario.reading(data, (*SEQUENTIAL, *LASTING)))
        recorder.phase("idle again", scenario.until_back(recorder))
    return Run("learning", recorder.phases, machine.read_switches(journal))


def shares(phase: Phase) -> dict[str, float]:
    """Return for which share of the second half of a phase each edition was seen in use."""
    half = (phase.began + phase.ended) / 2
    seen = [point.seen.active for point in phase.points if point.time >= half]
    return {edition: seen.count(edition) / len(seen) for edition in dict.fromkeys(seen)}


def judge(learning: Run) -> Verdict:
    """Say whether it has found `random` for random reads, and has left it for sequential ones."""
    at_random, in_order = (shares(learning.phases[name]) for name in ("random", "sequential"))
    tried = {switch.target for switch in learning.switches}
    last = learning.switches[-1].target if learning.switches else "(never switched)"
    best = at_random.get("random", 0.0)
    wrong = in_order.get("random", 0.0)
    return Verdict(
        (
            Check(
                f"tried by itself: {', '.join(sorted(tried)) or 'nothing'} (all of them)",
                tried == {"original", "random", "streaming"},
            ),
            Check(
                f"random reads, second half: `random` in use for {best:.0%} of it "
                f"(at least {BEST_SHARE_AT_LEAST:.0%})",
                best >= BEST_SHARE_AT_LEAST,
            ),
            Check(
                f"sequential reads, second half: `random` in use for {wrong:.0%} of it "
                f"(at most {1 - BEST_SHARE_AT_LEAST:.0%})",
                wrong <= 1 - BEST_SHARE_AT_LEAST,
            ),
            Check(f"without load: {last} (original)", last == "original"),
        )
    )


def summary(learning: Run, verdict: Verdict) -> str:
    """Say it in a screenful."""
    lines = ["", "== summary", "switches:"]
    lines += [f"  {one.origin} → {one.target}: {one.reason}" for one in learning.switches]
    lines.append("")
    lines += [f"  {'ok  ' if check.passed else 'FAIL'}  {check.text}" for check in verdict.checks]
    lines.append("demo: passed" if verdict.passed else "demo: FAILED")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, tell what came of it; 0 if it has found the best edition each time, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    scenario.add_arguments(parser)
    args = parser.parse_args(argv)
    journal = scenario.fresh_journal(args.out)
    disk = machine.BlockDevice(args.data)
    try:
        machine.load_modules(args.modules)
        with tempfile.TemporaryDirectory() as folder:
            learning = run(args.data, disk, write_config(Path(folder)), journal)
    except (machine.DemoError, fio.FioError) as error:
        scenario.say(f"demo: error: {error}")
        return 1
    finally:
        machine.unload_modules()
    verdict = judge(learning)
    scenario.say(summary(learning, verdict))
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
