# SPDX-License-Identifier: GPL-2.0-or-later
"""``record`` and ``replay``: keep what the daemon saw, and play policies over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd import recording, replay, status
from dynamosd.cli.output import print_json, print_note, print_table, warn
from dynamosd.errors import DynamosError, InvalidInput, Unreachable
from dynamosd.journal import rfc3339
from dynamosd.policy.durations import format_duration
from dynamosd.policy.load import load_policy
from dynamosd.recording import RecordingWriter
from dynamosd.replay import Apart, Difference, Replayed, Survey

if TYPE_CHECKING:
    import argparse

    from dynamosd.kmod import Kmod
    from dynamosd.policy.definition import Policy


# ------------------------------------------------------------------------------------ record


def record(args: argparse.Namespace, kmod: Kmod) -> int:
    """Write all that the daemon has recorded and still has into one file."""
    del kmod
    folder = args.source or _folder(args.runtime_dir)
    paths = recording.files(folder)
    lines = 0
    writer: RecordingWriter | None = None
    try:
        for path in paths:
            for number, line in enumerate(recording.read_lines(path)):
                if writer is None:
                    about = {key: line[key] for key in line.keys() - {"format", "version"}}
                    writer = RecordingWriter(args.file, about)
                elif number:
                    writer.write(line)
                    lines += 1
        if writer is not None:
            writer.close()
    except FileExistsError:
        raise InvalidInput(f"{args.file} exists already") from None
    except OSError as error:
        raise DynamosError(f"cannot write {args.file}: {error.strerror}") from error
    if writer is None:
        raise InvalidInput(f"there is no recording in {folder}")
    if args.output == "json":
        print_json("Recording", file=str(args.file), source=str(folder), samples=lines)
    else:
        print(f"{args.file}: {lines} samples from {folder}")
    return 0


def _folder(runtime_dir: Path) -> Path:
    daemon = status.read(runtime_dir)
    folder = (daemon or {}).get("recordings")
    if not folder:
        raise Unreachable("no daemon is running", hint="give its recordings with --from DIR")
    return Path(folder)


# ------------------------------------------------------------------------------------ replay


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a replay. ``faithful``: the daemon ran this policy when it recorded."""

    recording: Path
    survey: Survey
    made: Replayed
    other: Replayed | None
    apart: Sequence[Apart]
    flap_seconds: float
    faithful: bool

    @property
    def exit_code(self) -> int:
        return 1 if self.made.differing else 0


def replay_policy(args: argparse.Namespace, kmod: Kmod) -> int:
    """Play a policy over a recording; exit 1 if it does not decide what the daemon decided."""
    del kmod
    policy = load_policy(args.policy)
    against = load_policy(args.against) if args.against else None
    # Read as often as needed: a long recording does not fit in memory.
    survey = replay.survey(recording.read(args.recording))
    faithful = against is None and survey.has(policy)
    play = replay.as_recorded if faithful else replay.as_if
    keep = args.plot is not None
    made = play(policy, recording.read(args.recording), keep=keep)
    other = replay.as_if(against, recording.read(args.recording), keep=keep) if against else None
    apart = replay.compare(made, other) if other else []
    outcome = _Outcome(args.recording, survey, made, other, apart, args.flap, faithful)
    if args.plot:
        _plot(args.plot, outcome)
    if args.output == "json":
        _print_json(outcome)
    else:
        _print(outcome)
    return outcome.exit_code


def _plot(file: Path, outcome: _Outcome) -> None:
    from dynamosd.plot import draw  # noqa: PLC0415 - seldom asked for

    try:
        file.write_text(draw(outcome.made, outcome.other), encoding="utf-8")
    except OSError as error:
        raise DynamosError(f"cannot write {file}: {error.strerror}") from error


def _print(outcome: _Outcome) -> None:
    how = "as the daemon ran it" if outcome.faithful else "as if it had enforced"
    print(_describe(outcome.recording, outcome.survey))
    for each in filter(None, (outcome.made, outcome.other)):
        print()
        print(f"policy {each.policy.name} ({each.policy.file}), {how}")
        _print_replayed(each, outcome.flap_seconds)
    if outcome.other:
        print()
        _print_apart(outcome.apart, outcome.made, outcome.other)
    for difference in outcome.made.differences:
        warn(_describe_difference(difference))
    if outcome.faithful:
        same = outcome.made.compared - outcome.made.differing
        print(f"decided as the daemon did: {same} of {outcome.made.compared}")


def _describe(path: Path, survey: Survey) -> str:
    if not survey.samples:
        return f"{path}: no samples"
    return f"{path}: {survey.samples} samples, {rfc3339(survey.begin)} to {rfc3339(survey.end)}"


def _print_replayed(made: Replayed, flap: float) -> None:
    for switch in made.switches:
        rule = switch.rule or "baseline"
        scope = f" for {switch.scope}" if switch.scope else ""
        print(f"{rfc3339(switch.wall)}  {switch.origin} -> {switch.target}{scope}  ({rule})")
        print_note(switch.reason, indent="    ")
    seconds = made.seconds
    total = sum(seconds.values()) or 1.0
    rows = [
        (edition, format_duration(time), f"{100 * time / total:.1f} %")
        for edition, time in sorted(seconds.items(), key=lambda each: -each[1])
    ]
    print_table(("EDITION", "TIME", "SHARE"), rows, right="TIME,SHARE")
    flaps = made.flaps(flap)
    print(f"evaluations {made.evaluated}, switches {len(made.switches)}, flaps {flaps}")
    if made.suppressed:
        reasons = ", ".join(f"{reason} {count}" for reason, count in made.suppressed.most_common())
        print_note(f"not switched: {reasons}", indent="")


def _print_apart(apart: Sequence[Apart], made: Replayed, other: Replayed) -> None:
    names = (made.policy.file, other.policy.file)
    total = format_duration(sum(each.end - each.begin for each in apart))
    print(f"the two differ for {total}")
    rows = [
        (rfc3339(each.begin), format_duration(each.end - each.begin), each.first, each.second)
        for each in apart
    ]
    if rows:
        print_table(("FROM", "FOR", *names), rows, right="FOR")


def _describe_difference(difference: Difference) -> str:
    recorded, replayed = difference.recorded, difference.replayed
    changed = [
        f"{key} {recorded.get(key)!r} became {replayed.get(key)!r}"
        for key in dict.fromkeys((*recorded, *replayed))
        if recorded.get(key) != replayed.get(key)
    ]
    return f"{rfc3339(difference.wall)}: not what the daemon decided: {', '.join(changed)}"


def _print_json(outcome: _Outcome) -> None:
    survey, made, other = outcome.survey, outcome.made, outcome.other
    print_json(
        "Replay",
        exit_code=outcome.exit_code,
        recording=str(outcome.recording),
        samples=survey.samples,
        begin=rfc3339(survey.begin) if survey.samples else None,
        end=rfc3339(survey.end) if survey.samples else None,
        policy=_replayed_json(made, outcome.flap_seconds),
        against=_replayed_json(other, outcome.flap_seconds) if other else None,
        compared=made.compared,
        differing=made.differing,
        differences=[
            {"time": rfc3339(each.wall), "recorded": each.recorded, "replayed": each.replayed}
            for each in made.differences
        ],
        apart=[
            {
                "begin": rfc3339(each.begin),
                "seconds": each.end - each.begin,
                "policy": each.first,
                "against": each.second,
            }
            for each in outcome.apart
        ],
    )


def _replayed_json(made: Replayed, flap: float) -> dict[str, object]:
    policy: Policy = made.policy
    return {
        "name": policy.name,
        "file": policy.file,
        "evaluations": made.evaluated,
        "flaps": made.flaps(flap),
        "editions": {edition: {"seconds": time} for edition, time in made.seconds.items()},
        "suppressed": dict(made.suppressed),
        "switches": [
            {
                "time": rfc3339(each.wall),
                "from": each.origin,
                "to": each.target,
                "rule": each.rule,
                "reason": each.reason,
                "scope": each.scope or None,
            }
            for each in made.switches
        ],
    }
