# SPDX-License-Identifier: GPL-2.0-or-later
"""What is never gated: each kind with its reason, and all that a call's way through a gate uses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.kernel import control, guest
from tests.kernel.control import Commander, Controlled, Follower
from tests.kernel.guest import CORE, TARGET, TRACING
from tests.kernel.load import holds, storm
from tests.kernel.target import Target, blocked, free, new, parameter, release

MODULES = (*guest.SELFTEST_MODULES, "dynamos_selftest_atomic", "dynamos_selftest_atomic_b")
"""All that the tests here ask about; none is switched, except to follow its calls."""

LOCKDEP = Path("/proc/lockdep").exists()
"""This kernel checks locks, and some functions have other names."""

DENIED = {
    "schedule": "always inside",
    "schedule_idle": "always inside",
    "do_idle": "always inside",
    "cpu_startup_entry": "always inside",
    "kthread": "always inside",
    "schedule_tail": "one thread stops",
    "do_exit": "does not return",
    "do_group_exit": "does not return",
    "make_task_dead": "does not return",
    "get_signal": "does not return",
    "panic": "does not return",
    "call_rcu": "RCU's",
    "synchronize_rcu": "RCU's",
    "__rcu_read_lock": "RCU's",
    "__srcu_read_lock": "RCU's",
    "kvfree_call_rcu": "RCU's",
    "synchronize_rcu_tasks": "RCU's",
    "perf_event_task": "tracing",
    "bpf_prog_alloc": "tracing",
    "register_kprobe": "tracing",
    "tracepoint_probe_register": "tracing",
    "__traceiter_sched_switch": "tracing",
    "klp_enable_patch": "text is changed",
    "klp_shadow_get": "text is changed",
    "text_poke_bp": "text is changed",
    "static_key_slow_inc": "text is changed",
    "jump_label_update": "text is changed",
    "__static_call_update": "text is changed",
    "smp_call_function_single": "text is changed",
    "_printk": "what has gone wrong",
    "vprintk_emit": "what has gone wrong",
    "console_unlock": "what has gone wrong",
    "show_stack": "what has gone wrong",
    "nmi_handle": "entry code",
    "fixup_exception": "entry code",
    "irq_enter_rcu": "entry code",
    "__sysvec_apic_timer_interrupt": "entry code",
    "unwind_next_frame": "stacks are read",
    "stack_trace_save": "stacks are read",
    "stop_machine": "stacks are read",
    "cpu_stopper_thread": "stacks are read",
    "__wake_up": "woken",
    "try_to_wake_up": "woken",
    "prepare_to_wait_event": "woken",
    "finish_wait": "woken",
    "_raw_spin_lock_irqsave": "woken",
    "hrtimer_interrupt": "woken",
    "kfree": "memory",
    "___slab_alloc": "memory",
    "get_page_from_freelist": "memory",
    "get_random_u32": "memory",
    "queue_work_on": "free memory later",
    "mod_timer": "free memory later",
    "ktime_get": "time",
    "finish_task_switch.isra.0": "one thread stops",
    "dynamos_choose": "part of a gate",
    "dynamos_pass_begin": "part of a gate",
    "object_pick": "part of a gate",
    "dynamos:tasks_has": "part of a gate",
    f"{TARGET}:dynamos_nosuch": "part of a gate",
}
"""Some of each kind, all of them in both kernels, and words of the reason."""

CAN_BE_GATED = (
    *guest.FUNCTIONS,
    "pipe_read",
    "pipe_write",
    "alloc_pipe_info",
    "free_pipe_info",
    "kswapd",
    "balance_pgdat",
    "folio_referenced",
    "shrink_node",
    "handle_mm_fault",
    "select_task_rq_fair",
    "enqueue_task_fair",
    "menu_select",
    "mutex_lock_nested" if LOCKDEP else "mutex_lock",
    "mutex_spin_on_owner",
    "vfs_read",
    "vfs_write",
    "tcp_sendmsg",
    "tcp_v4_rcv",
    "tcp_reno_cong_avoid",
    "blk_mq_submit_bio",
    f"{TARGET}:target_value",
    f"{TARGET}:target_atomic",
)

NOT_POSSIBLE = {
    "nosuch_function": "ENOENT",
    "nosuch_module:vfs_read": "ENOENT",
    f"{TARGET}:vfs_read": "ENOENT",
    "jiffies": "EINVAL",
    "linux_banner": "EINVAL",
    "strlen": "EINVAL",
    "memcpy": "EINVAL",
    "exc_page_fault": "EINVAL",
    "ftrace_caller": "EPERM",
    "__schedule": "EPERM",
    "target_value": "EINVAL",
}
"""What is not there, is no function, cannot be traced, or is a module's which is not named."""

MALFORMED = (
    "check",
    "check pipe_read pipe_write",
    "check pipe_read mode=concurrent",
    "check :",
    "check :pipe_read",
    f"check {TARGET}:",
    "check a:b:c",
    "check pipe/read",
    f"check {'x' * 64}",
    f"check {'x' * 64}:pipe_read",
)

ON_THE_WAY = ("pass", "object", "scope", "tasks", "stack", "shadow", "drain", "event")
"""The files of dynamos.ko of which something runs on a call's way through a gate."""

WRAPPERS = ("dynamos_selftest_atomic", "dynamos_selftest_atomic_b", "dynamos_selftest")
"""Modules with wrappers and dispatch slots whose bodies call nothing but the original."""

NOT_ON_THE_WAY = {
    "mutex_lock": "dynamos_lock is a switch's; nothing that a call runs takes it",
    "mutex_lock_nested": "the same, where lockdep is",
    "mutex_unlock": "the same",
    "mutex_trylock": "an edition that has drained waits for its turn",
    "module_put": "when an edition has drained",
    "cancel_delayed_work_sync": "when an edition goes",
    "init_timer_key": "when a subsystem or an edition comes",
    "__init_work": "the same, where work is checked",
    "cgroup_get_from_path": "when a scope is made",
    "find_vpid": "when a task scope is made",
    "pid_task": "the same",
    "kvmalloc_node": "when a set of tasks, or the objects' table, is made",
    "__kvmalloc_node_noprof": "the same",
    "__alloc_percpu": "when a share scope is made",
    "pcpu_alloc_noprof": "the same",
    "free_percpu": "when it is freed",
}
"""What those files use on a switch's side only, with the moment."""

CALLED_BY_TRAMPOLINE = {"__SCT__might_resched": "__cond_resched"}
"""What a static call leads to that is called something else."""

LONGEST_REASON = 160
EXCLUSIVE = "mode=exclusive timeout_ms=60000"


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> Iterator[None]:
    guest.unload_all()
    guest.load_all(MODULES)
    yield
    guest.unload_all()


def check(function: str) -> tuple[str, str]:
    """Ask whether a function may be gated: the errno's name and the sentence, or "" and ""."""
    with Follower() as events:
        said = guest.answer(lambda: control.command(f"check {function}"))
        refused = events.only("refused")
    if not said:
        assert not refused
        return "", ""
    [event] = refused
    assert event.fields["command"] == f"check {function}"[:120]
    reason = event.fields["reason"]
    assert 0 < len(reason) < LONGEST_REASON - 1, "a sentence that was not cut"
    return said, reason


@cache
def traceable() -> frozenset[str]:
    """All functions that ftrace knows, those of our modules too."""
    lines = (TRACING / "available_filter_functions").read_text().splitlines()
    return frozenset(line.split()[0] for line in lines)


@pytest.mark.parametrize("function", DENIED)
def test_denied_with_a_reason(function: str) -> None:
    name = function.rpartition(":")[2]
    assert name in traceable() or "nosuch" in name, "else the test says nothing"
    said, reason = check(function)
    assert said == "EPERM"
    assert reason.startswith(f"{name} is not gated: ")
    assert DENIED[function] in reason


@pytest.mark.parametrize("function", CAN_BE_GATED)
def test_what_editions_replace_can_be_gated(function: str) -> None:
    assert check(function) == ("", "")


@pytest.mark.parametrize("function", NOT_POSSIBLE)
def test_what_cannot_be_gated(function: str) -> None:
    said, reason = check(function)
    assert said == NOT_POSSIBLE[function]
    assert function.rpartition(":")[2] in reason


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed(line: str) -> None:
    assert check(line.removeprefix("check").strip(" "))[0] == "EINVAL"


def test_asking_leaves_no_trace() -> None:
    before = guest.enabled_functions()
    shown = sorted(control.SYSFS.rglob("*"))
    with Follower() as events:
        control.command("check pipe_read")
        control.command(f"check {TARGET}:target_value")
        assert events.read() == []
    assert guest.enabled_functions() == before
    assert sorted(control.SYSFS.rglob("*")) == shown
    assert Target().result("value 5") == 6


def test_each_function_of_ours_is_refused() -> None:
    lines = (TRACING / "available_filter_functions").read_text().splitlines()
    ours = [line.split()[0] for line in lines if line.endswith(f"[{CORE}]")]
    assert "object_pick" in ours
    assert {name for name in ours if check(f"{CORE}:{name}")[0] != "EPERM"} == set()


# ---------------------------------------------------------------------- a call's way, as linked


def build() -> Path:
    """Give the folder with what was built for this kernel."""
    project, kernel = os.environ["DYNAMOS_PROJECT"], os.environ["DYNAMOS_KERNEL"]
    return Path(project, ".cache/build", kernel, "kmod")


def called_from(path: Path) -> set[str]:
    """Every function that an object file leaves to others, by the names of what is called."""
    done = guest.run("nm", "--undefined-only", "--format=just-symbols", str(path))
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    return {CALLED_BY_TRAMPOLINE.get(name, name.removeprefix("__SCT__")) for name in names}


def objects() -> list[Path]:
    """The object files that a call's way is in."""
    folder = build()
    return [folder / f"{name}.o" for name in ON_THE_WAY] + [
        folder / "selftest" / f"{name}.ko" for name in WRAPPERS
    ]


@pytest.mark.parametrize("path", objects(), ids=lambda path: path.stem)
def test_what_a_gate_calls_is_not_gated(path: Path) -> None:
    called = called_from(path) & traceable()
    open_to_all = {name for name in called if check(name)[0] not in {"EPERM", "EINVAL"}}
    assert open_to_all <= set(NOT_ON_THE_WAY)


def test_the_exceptions_are_needed() -> None:
    called = set().union(*map(called_from, objects()))
    there = set(NOT_ON_THE_WAY) & traceable()
    assert {name for name in there if name in called and check(name)[0]} == set()
    assert len(there & called) > len(NOT_ON_THE_WAY) / 2


# ---------------------------------------------------------------------- a call's way, as taken

ENTRIES = ("dynamos_pass_begin", "dynamos_pass_end", "dynamos_choose", "dynamos_leaving")
NOT_FOLLOWED = (
    *("schedule", "__cond_resched", "preempt_schedule_irq", "raw_irqentry_exit_cond_resched"),
    *("try_to_wake_up", "handle_softirqs"),
)
"""They are refused themselves. What the first five call cannot be held, and may be gated (a task
that follows a call may be taken from its CPU at any of the first four: `__schedule` is not
traceable, what it calls is); the last comes from an interrupt.
"""

SCHEDULERS_FIRST = "rcu_note_context_switch"
"""What the scheduler calls before anything else, of all that is traceable."""

_CALLED = re.compile(r"-(\d+)\s+\|.*\|( +)([\w.]+)(?: \[(\w+)\])?\(\)")
_BUFFER_KB = 16384
"""For each CPU: what is followed first must still be there at the end, however long it takes."""


def write(name: str, text: str) -> None:
    """Write one of the tracer's files."""
    (TRACING / name).write_text(text)


@dataclass(frozen=True, slots=True)
class Way:
    """What calls were seen to enter on their way: all of it, and that without the scheduler's."""

    entered: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)


@contextmanager
def followed() -> Iterator[Way]:
    """Follow all calls through gates, and give the functions that were entered on the way."""
    way = Way()
    # Until it is used it is small, and says how large it would be then.
    size = re.findall(r"\d+", (TRACING / "buffer_size_kb").read_text())[-1]
    write("buffer_size_kb", str(_BUFFER_KB))
    write("set_graph_function", "\n".join(ENTRIES))
    write("set_graph_notrace", "\n".join(traceable() & set(NOT_FOLLOWED)))
    write("options/funcgraph-irqs", "0")
    write("options/funcgraph-proc", "1")
    write("current_tracer", "function_graph")
    # An oops, which other tests have had, switches tracing off.
    write("tracing_on", "1")
    try:
        yield way
        write("tracing_on", "0")
        look_below_entries((TRACING / "trace").read_text(), way)
    finally:
        write("current_tracer", "nop")
        for name in ("set_graph_function", "set_graph_notrace"):
            write(name, "")
        write("options/funcgraph-irqs", "1")
        write("options/funcgraph-proc", "0")
        write("buffer_size_kb", size)
        write("tracing_on", "1")


def look_below_entries(trace: str, way: Way) -> None:
    """Note the functions that were called from an entry, and the entries themselves.

    The tracer may go on to follow all that a task does: an interrupt on top of it was in a gate,
    and the tracer is told to leave interrupts out after it has begun to follow. So what counts is
    where a call stands, by its indent, in what its own task does. An edition's own callbacks and
    handler are its author's. A kernel that preempts wherever it can does so within the tracer too,
    which then shows what the scheduler calls; what follows beside that may be the scheduler's.
    """
    inside: dict[str, int] = {}
    switching: dict[str, int] = {}
    for task, indent, name, module in _CALLED.findall(trace):
        depth = len(indent)
        for stands in (inside, switching):
            if depth <= stands.get(task, -1):
                del stands[task]
        if name in ENTRIES:
            inside.setdefault(task, depth)
        if name == SCHEDULERS_FIRST:
            # Until the function is left that was preempted.
            switching.setdefault(task, depth - 1)
        if task in inside and module in {"", CORE}:
            way.entered.add(name)
            if task not in switching or module:
                way.own.add(name)


def make_calls() -> None:
    """Make calls of each kind, about an object and about none."""
    Target().run("value 3")
    new(2, 3)
    for key in (2, 3, 2):
        Target().run(f"use {key}")
    free((2, 3))


def move_an_object(subsystem: Controlled) -> None:
    """Have a call move an object that was there before the switch."""
    new(1)
    before = parameter(guest.SELFTEST_LAYOUT, "converted")
    subsystem.switch("layout", "mode=per-object")

    def is_moved() -> bool:
        Target().run("use 1")
        return parameter(guest.SELFTEST_LAYOUT, "converted") > before

    guest.wait_until(is_moved, "the object is moved")
    make_calls()
    free((1,))
    subsystem.switch_and_drain("original", EXCLUSIVE)


def hold_a_caller(subsystem: Controlled) -> None:
    """Have an exclusive switch hold a caller until somebody has left."""
    new(1)
    command = f"switch {subsystem.name} b {EXCLUSIVE}"
    with blocked(1) as inside, storm("value 3") as results, Commander(command) as switch:
        guest.wait_until(holds(subsystem, 1), "a caller is held")
        release(1, inside)
        switch.output()
    assert results["value 3"] == {4, 1004}
    free((1,))


def leave_late(subsystem: Controlled) -> None:
    """Have somebody leave an edition that is waited for."""
    new(1)
    with blocked(1) as inside, Follower() as events:
        subsystem.switch("original", "mode=concurrent")
        events.wait_for("draining", edition="b")
        release(1, inside)
        events.wait_for("drained", edition="b")
    free((1,))


def test_what_a_gate_was_seen_to_call_is_not_gated() -> None:
    selftest = Controlled("selftest")
    with followed() as way:
        for scope in ("handler", "share:1/2", f"task:{os.getpid()}", "cgroup:/"):
            edition = "handler" if scope == "handler" else "b"
            selftest.switch(edition, "mode=scoped", f"scope={scope}")
            make_calls()
            selftest.switch("original")
        selftest.switch("b", "mode=per-object")
        make_calls()
        selftest.switch_and_drain("original", EXCLUSIVE)
        move_an_object(selftest)
        hold_a_caller(selftest)
        leave_late(selftest)
    assert {*ENTRIES, "object_pick", "scope_has", "is_inside"} <= way.entered
    assert {"__wake_up", "prepare_to_wait_event", "kfree", "unwind_next_frame"} <= way.entered
    assert {name for name in way.own if check(name)[0] not in {"EPERM", "EINVAL"}} == set()
