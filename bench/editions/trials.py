# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured: each subsystem's editions, under loads that they are for and that they harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench.editions.model import (
    COUNTING,
    IN_CALLS,
    ORIGINAL,
    PARALLEL,
    Limit,
    Load,
    Machine,
    Place,
    Trial,
    nowhere,
)
from bench.editions.places import FOREGROUND, two_jobs
from tests.vm.disk import Disk

SWITCHES, TIME_ON_CPU, TIME = "switches", "cpu_ns", "elapsed_ns"
FAULTS = "faults"

LISTS, GENERATIONS = (
    Machine(
        f"512 MiB, a disk of 3,000 requests a second, {lru}",
        2,
        "single",
        counts=False,
        memory="512M",
        disk=Disk(300 << 20, operations_per_second=3000),
    )
    for lru in ("two lists", "the multi-generation LRU")
)

_RECLAIM = ("dynamos_reclaim_foreground",)
_SQUEEZE = Load(
    "squeeze",
    "80 MiB are used, then left alone while others touch 400 MiB, then used again",
    "{front} {back} {file} {sparse} 2 400",
)

SHARED = Machine("four CPUs that share a real one", 4, "multi", counts=False, real_cpus=1)
TURNS = Machine("four CPUs that take turns, and pass on theirs", 4, "single", counts=False)

_SPINNING = ("dynamos_spinning_no_spin",)
_LONG = Load("long", "a thread for each CPU reads 64 KiB at a time", "4 2000 65536")
_CROWD = Load("crowd", "16 threads do", "16 2000 65536")
_SMALL = Load("small", "a thread for each CPU reads 512 bytes at a time", "4 20000 512")
_PAIR = replace(_LONG, arguments="2 2000 65536")
_SMALL_PAIR = replace(_SMALL, arguments="2 20000 512")

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
            "/sys/module/dynamos_pipe_spin/parameters/poll_max_us": "400",
            "/sys/module/dynamos_pipe_adaptive/parameters/poll_max_us": "400",
        },
    ),
    *(
        Trial(
            "reclaim",
            _RECLAIM,
            "reclaim_load",
            machine,
            (_SQUEEZE,),
            {ORIGINAL: ORIGINAL, "foreground": "foreground"},
            (FAULTS, TIME),
            # The multi-generation LRU has kept these pages by itself.
            (Limit("squeeze", "foreground", FAULTS, 0.5),) if generations == "n" else (),
            {
                "/sys/module/dynamos_reclaim_foreground/parameters/foreground": f"/{FOREGROUND}",
                "/sys/kernel/mm/lru_gen/enabled": generations,
            },
            partial(two_jobs, 80, 400),
            3,
        )
        for machine, generations in ((LISTS, "n"), (GENERATIONS, "y"))
    ),
    *(
        Trial(
            "spinning",
            _SPINNING,
            "spinning_load",
            machine,
            loads,
            {ORIGINAL: ORIGINAL, "no_spin": "no_spin"},
            (TIME, TIME_ON_CPU, SWITCHES, IN_CALLS),
            limits,
            timed="mutex_spin_on_owner",
        )
        for machine, loads, limits in (
            (
                SHARED,
                (_LONG, _CROWD, _SMALL),
                (
                    Limit("long", "no_spin", TIME, 0.8),
                    Limit("long", "no_spin", TIME_ON_CPU, 0.6),
                    Limit("long", "no_spin", IN_CALLS, 0.2),
                    Limit("crowd", "no_spin", TIME, 0.8),
                ),
            ),
            # Who spins passes the CPU on, as under a hypervisor that notices: nothing gets faster.
            (TURNS, (_LONG, _SMALL), (Limit("long", "no_spin", TIME_ON_CPU, 0.6),)),
            # None: see above, at the other trial in this machine.
            (PARALLEL, (_PAIR, _SMALL_PAIR), ()),
        )
    ),
)


@dataclass(frozen=True, slots=True)
class Adaption:
    """A shipped policy, and loads that it is to tell apart.

    Attributes:
        settings, place: as in `Trial`.
        phases: the loads, one after the other.
        wanted: what shall be active in the end of each.
        seconds: how long each lasts.
        cpus: which of the guest's the loads have; the daemon has all.
    """

    subsystem: str
    policy: str
    modules: Sequence[str]
    function: str
    program: str
    settings: Mapping[str, str]
    phases: Sequence[Load]
    wanted: Mapping[str, str]
    seconds: float
    machine: Machine
    place: Place = nowhere
    cpus: str = "0"


_SLOW = "/sys/module/dynamos_pipe_adaptive/parameters"
ADAPTIONS = {
    "pipe": Adaption(
        "pipe",
        "pipe",
        _PIPE,
        "pipe_write",
        "pipe_load",
        # As above.
        {f"{_SLOW}/gather_min_us": "1000", f"{_SLOW}/gather_max_us": "10000"},
        (_STORM, _SHORT),
        {_STORM.name: "adaptive", _SHORT.name: ORIGINAL},
        60.0,
        Machine("two CPUs", 2, "single", counts=False),
    ),
    "reclaim": Adaption(
        "reclaim",
        "reclaim",
        _RECLAIM,
        "folio_referenced",
        "reclaim_load",
        # The policy sets the cgroup itself.
        {"/sys/kernel/mm/lru_gen/enabled": "y"},
        (
            Load("squeeze", "as above", "{front} {back} {file} {sparse} 2 400"),
            Load("calm", "the same without others", "{front} {back} {file} {sparse} 200 0"),
        ),
        {"squeeze": "foreground", "calm": ORIGINAL},
        60.0,
        # Room for the daemon and its compiler.
        replace(GENERATIONS, about="1 GiB, a disk of 3,000 requests a second", memory="1G"),
        partial(two_jobs, 80, 1000),
    ),
    "spinning": Adaption(
        "spinning",
        "spinning",
        _SPINNING,
        "mutex_spin_on_owner",
        "spinning_load",
        {},
        (_LONG, Load("alone", "one thread, which has the mutex to itself", "1 2000 65536")),
        {_LONG.name: "no_spin", "alone": ORIGINAL},
        60.0,
        TURNS,
        cpus="0-3",
    ),
}
