# SPDX-License-Identifier: GPL-2.0-or-later
"""The eBPF probes on the gates' tracepoints. The only module that imports bcc.

BCC is Debian's ``python3-bpfcc``; the ``bcc`` on PyPI is something else.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dynamosd.errors import NotSupported
from dynamosd.latency import BUCKETS, PART_BITS, UNIT_BITS, Latency
from dynamosd.model import FunctionSample, KernelState, ProbeCost
from dynamosd.probes import btf

SOURCE: Final = Path(__file__).resolve().parents[2] / "bpf" / "dynamos.bpf.c"

FUNCTION_SLOTS: Final = 64
EDITION_SLOTS: Final = 16
"""DYNAMOS_MAX_EDITIONS of kmod/include/dynamos/edition.h."""

REACH_PAGES: Final = 512
"""How far ahead of the last call a sequential one may be: any edition's largest window."""

KIND_READAHEAD: Final = 1
KIND_LATENCY: Final = 2
KIND_EPOCH: Final = 8
"""As in the map ``kinds``."""

READAHEAD_FUNCTIONS: Final = frozenset(
    {"page_cache_ra_order", "page_cache_sync_ra", "page_cache_async_ra"}
)
"""Functions whose first argument, a ``struct readahead_control *``, is looked into."""

Key = tuple[str, str, str]
"""(subsystem, function, edition)."""

BPF_STATS_RUN_TIME: Final = 0
BPF_ENABLE_STATS: Final = 32
"""Numbers of the bpf(2) system call, from include/uapi/linux/bpf.h."""
SYS_BPF: Final = 321


class GateProbe:
    """Counts calls and returns of each gated function per edition, and how sequential they are.

    Attaching takes a BCC compile: less than a second on hardware, ten and more when emulated.

    Raises:
        NotSupported: BCC or the kernel's type information is missing, or the kernel refuses the
            programs; the message holds the compiler's text.
    """

    def __init__(self) -> None:
        self._bpf = _compile()
        _attach(self._bpf, "edition_enter", "on_enter")
        _attach(self._bpf, "edition_exit", "on_exit")
        self._stats_fd = _enable_stats()
        self._kinds: dict[int, int] = {}
        self._epoch = 0
        self._timed: dict[int, Key] = {}

    def watch(self, state: KernelState, timed: frozenset[str]) -> None:
        """Give each function that is there now the look its arguments allow; time those."""
        self._make_room({slot: key for slot, key in _slots(state) if key[1] in timed})
        for subsystem in state.subsystems.values():
            for function in subsystem.functions.values():
                kind = KIND_READAHEAD if function.name in READAHEAD_FUNCTIONS else 0
                kind |= KIND_LATENCY if function.name in timed else 0
                if function.id < FUNCTION_SLOTS and self._kinds.get(function.id) != kind:
                    self._set_kind(function.id, kind)

    def _set_kind(self, function: int, kind: int) -> None:
        # Calls that began under another number are not timed: their beginning may be of long ago.
        self._epoch += 1
        told = ctypes.c_uint32(self._epoch << KIND_EPOCH | kind)
        self._bpf[b"kinds"][ctypes.c_uint32(function)] = told
        self._kinds[function] = kind

    def _make_room(self, wanted: dict[int, Key]) -> None:
        """Have histograms where times are wanted, and nowhere else; a new owner gets a new one."""
        table = self._bpf[b"latencies"]
        for slot, key in list(self._timed.items()):
            if wanted.get(slot) != key:
                del self._timed[slot]
                del table[ctypes.c_uint32(slot)]
        for slot in wanted.keys() - self._timed.keys():
            table[ctypes.c_uint32(slot)] = table.Leaf()
            self._timed[slot] = wanted[slot]

    def read(self, state: KernelState) -> Mapping[tuple[str, str, str], FunctionSample]:
        """Cumulative figures since attaching, of each function and edition in ``state``."""
        table, latencies = self._bpf[b"figures"], self._bpf[b"latencies"]
        samples = {}
        for slot, key in _slots(state):
            timed = self._timed.get(slot) == key
            latency = _sum_latency(latencies[ctypes.c_uint32(slot)]) if timed else None
            samples[key] = _sum(table[ctypes.c_int(slot)], latency)
        return samples

    def dropped(self) -> int:
        """Calls of functions that have no slot, since attaching."""
        return sum(self._bpf[b"dropped"][ctypes.c_int(0)])

    def cost(self) -> ProbeCost:
        """What the programs have cost so far; zeroes where the kernel does not tell."""
        runs = run_ns = missed = 0
        for name in (b"on_enter", b"on_exit"):
            info = _program_info(self._bpf.funcs[name].fd)
            runs, run_ns, missed = (
                runs + info["run_cnt"],
                run_ns + info["run_time_ns"],
                missed + info["misses"],
            )
        return ProbeCost(runs=runs, run_seconds=run_ns / 1e9, missed=missed)

    def close(self) -> None:
        """Detach; the gates' tracepoints are off again when nobody else uses them."""
        if self._stats_fd >= 0:
            os.close(self._stats_fd)
            self._stats_fd = -1
        self._bpf.cleanup()


def _slots(state: KernelState) -> Iterator[tuple[int, Key]]:
    """Give where the programs count each function and edition."""
    for subsystem in state.subsystems.values():
        for function in subsystem.functions.values():
            for name in function.counts if function.id < FUNCTION_SLOTS else ():
                edition = subsystem.editions.get(name)
                if edition is not None:
                    slot = function.id * EDITION_SLOTS + edition.index
                    yield slot, (subsystem.name, function.name, name)


PerCpu = Any
"""A ctypes array that BCC makes at run time."""


def _sum_latency(per_cpu: PerCpu) -> Latency:
    counts = tuple(map(sum, zip(*(one.counts for one in per_cpu), strict=True)))
    return Latency(counts, sum(one.nanoseconds for one in per_cpu))


def _sum(per_cpu: PerCpu, latency: Latency | None) -> FunctionSample:
    return FunctionSample(
        calls=sum(one.calls for one in per_cpu),
        returns=sum(one.returns for one in per_cpu),
        sequential=sum(one.sequential for one in per_cpu),
        classified=sum(one.classified for one in per_cpu),
        pages=sum(one.pages for one in per_cpu),
        errors=sum(one.errors for one in per_cpu),
        untimed=sum(one.untimed for one in per_cpu),
        latency=latency,
    )


def _compile() -> Any:  # noqa: ANN401 (bcc has no types)
    try:
        from bcc import BPF  # noqa: PLC0415 (only the daemon needs it, and only root has it)
    except ImportError as error:
        raise NotSupported(
            f"BCC cannot be imported: {error}", hint="apt install python3-bpfcc"
        ) from error
    ractl = btf.read_offsets("readahead_control", "file", "_index")
    flags = [
        f"-DFUNCTIONS={FUNCTION_SLOTS}",
        f"-DEDITIONS={EDITION_SLOTS}",
        f"-DRACTL_FILE={ractl['file']}",
        f"-DRACTL_INDEX={ractl['_index']}",
        f"-DREACH={REACH_PAGES}",
        f"-DPART_BITS={PART_BITS}",
        f"-DUNIT_BITS={UNIT_BITS}",
        f"-DBUCKETS={BUCKETS}",
        "-Wno-everything",
    ]
    with _stderr_text() as said:
        try:
            bpf = BPF(src_file=str(SOURCE).encode(), cflags=flags)
            for name in (b"on_enter", b"on_exit"):
                bpf.load_func(name, BPF.RAW_TRACEPOINT)
        except Exception as error:
            # BCC raises bare Exception and prints the reason to stderr.
            raise NotSupported(
                f"the eBPF probes do not compile or load here: {error}\n{said()}".rstrip(),
                hint="are the kernel's headers installed (apt install linux-headers-$(uname -r))?",
            ) from error
    return bpf


def _attach(bpf: Any, tracepoint: str, function: str) -> None:  # noqa: ANN401
    try:
        bpf.attach_raw_tracepoint(tp=tracepoint.encode(), fn_name=function.encode())
    except Exception as error:
        raise NotSupported(
            f"the eBPF probe cannot be attached to the tracepoint dynamos:{tracepoint}: {error}",
            hint="is the kernel module loaded (modprobe dynamos)?",
        ) from error


@contextmanager
def _stderr_text() -> Iterator[Any]:
    """Catch what C code writes to stderr; shown again unless the caller asks for it."""
    with tempfile.TemporaryFile() as caught:
        saved = os.dup(2)
        os.dup2(caught.fileno(), 2)
        asked = False

        def said() -> str:
            nonlocal asked
            asked = True
            caught.seek(0)
            return caught.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            if not asked:
                caught.seek(0)
                os.write(2, caught.read())


def _enable_stats() -> int:
    """Have the kernel time all eBPF programs while the descriptor is open; -1 if it cannot."""
    attr = (ctypes.c_uint32 * 32)(BPF_STATS_RUN_TIME)
    return int(
        ctypes.CDLL(None, use_errno=True).syscall(
            SYS_BPF, BPF_ENABLE_STATS, attr, ctypes.sizeof(attr)
        )
    )


def _program_info(fd: int) -> dict[str, int]:
    """Run figures of a loaded program, from the descriptor's file in /proc."""
    info = {"run_cnt": 0, "run_time_ns": 0, "misses": 0}
    names = {"run_cnt": "run_cnt", "run_time_ns": "run_time_ns", "recursion_misses": "misses"}
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in names:
            info[names[key]] = int(value)
    return info
