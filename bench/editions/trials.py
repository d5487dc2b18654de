# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured: each subsystem's editions, under loads that they are for and that they harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.editions.model import COUNTING, ORIGINAL, PARALLEL, Limit, Load, Trial

SWITCHES, TIME_ON_CPU, TIME = "switches", "cpu_ns", "elapsed_ns"

_PIPE = ("dynamos_pipe_coalesce", "dynamos_pipe_spin", "dynamos_pipe_adaptive")
_HANDLER = "adaptive mode=scoped scope=handler"
_STORM = Load("storm", "messages of 64 bytes, as fast as they can be written", "stream 16384 64")
_BULK = Load("bulk", "64 KiB at a time", "stream 256 65536")
_TURNS = Load("turns", "a message of 64 bytes, and its answer", "turns 4000 64")
_SHORT = Load("short", "bursts of 16 messages, and an answer to each burst", "bursts 1000 64 16")
_BURSTS = Load("bursts", "bursts of 100 messages, and an answer to each burst", "bursts 160 64 100")

TRIALS = (
    Trial(
        "pipe",
        _PIPE,
        "pipe_load",
        COUNTING,
        (_STORM, _BULK, _TURNS, _SHORT, _BURSTS),
        {ORIGINAL: ORIGINAL, "coalesce": "coalesce", "adaptive": "adaptive", "handler": _HANDLER},
        (SWITCHES, TIME_ON_CPU, TIME),
        (
            Limit("storm", "coalesce", SWITCHES, 1 / 3),
            Limit("storm", "coalesce", TIME_ON_CPU, 0.75),
            Limit("storm", "adaptive", SWITCHES, 1 / 3),
            Limit("storm", "handler", SWITCHES, 1 / 3),
            Limit("bulk", "coalesce", TIME, 1.02),
            Limit("bulk", "adaptive", TIME, 1.02),
        ),
    ),
    Trial(
        "pipe",
        _PIPE,
        "pipe_load",
        PARALLEL,
        (_TURNS, _SHORT, _STORM, _BULK),
        {ORIGINAL: ORIGINAL, "coalesce": "coalesce", "spin": "spin", "adaptive": "adaptive"},
        (SWITCHES, TIME),
        # None: what comes of it depends on whether this machine has a CPU for each of the guest's.
        (),
        # So long takes there what takes a twentieth of it elsewhere.
        {
            ("dynamos_pipe_spin", "parameters", "poll_max_us"): "400",
            ("dynamos_pipe_adaptive", "parameters", "poll_max_us"): "400",
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Adaption:
    """A shipped policy, and loads that it is to tell apart.

    Attributes:
        parameters: as in `Trial`.
        phases: what the load's program is told, by the load's name.
        wanted: what shall be active in the end of each.
        seconds: how long each lasts.
    """

    subsystem: str
    policy: str
    modules: Sequence[str]
    function: str
    program: str
    parameters: Mapping[tuple[str, ...], str]
    phases: Mapping[str, str]
    wanted: Mapping[str, str]
    seconds: float


_SLOW = "dynamos_pipe_adaptive", "parameters"
ADAPTIONS = {
    "pipe": Adaption(
        "pipe",
        "pipe",
        _PIPE,
        "pipe_write",
        "pipe_load",
        # As above.
        {(*_SLOW, "gather_min_us"): "1000", (*_SLOW, "gather_max_us"): "10000"},
        {_STORM.name: _STORM.arguments, _SHORT.name: _SHORT.arguments},
        {_STORM.name: "adaptive", _SHORT.name: ORIGINAL},
        60.0,
    ),
}
