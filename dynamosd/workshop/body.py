# SPDX-License-Identifier: GPL-2.0-or-later
"""What a function does that its replacement has to reckon with: loops, sleeps, pointers.

Only what the function itself does is looked at, not what those do that it calls. A name says
whether a function may sleep; the list is short, and of what the kernel documents as sleeping.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from dynamosd.workshop.symbols import Symbols
from dynamosd.workshop.text import Body, Instruction

MAY_SLEEP = (
    *("might_sleep*", "might_resched", "cond_resched*", "schedule", "schedule_*", "io_schedule*"),
    *("mutex_lock*", "ww_mutex_lock*", "rt_mutex_lock*", "rtnl_lock*"),
    *("down", "down_interruptible", "down_killable", "down_timeout"),
    *("down_read", "down_read_*", "down_write", "down_write_*", "percpu_down_*"),
    *("wait_for_*", "wait_on_*", "wait_woken", "out_of_line_wait_on_*", "do_wait_intr*"),
    *("copy_from_user*", "copy_to_user*", "copy_user_*", "rep_movs_alternative", "rep_stos_*"),
    *("get_user_[1248]", "put_user_[1248]", "get_user_nocheck_*", "put_user_nocheck_*"),
    *("clear_user*", "strncpy_from_user", "strnlen_user"),
    *("copy_page_from_iter*", "copy_page_to_iter*", "copy_from_iter*", "copy_to_iter*"),
    *("msleep*", "usleep_range*", "ssleep"),
    *("folio_lock*", "folio_wait_*", "lock_page*", "lock_buffer*"),
    *("synchronize_rcu*", "synchronize_srcu*", "synchronize_net", "rcu_barrier*"),
    *("flush_work*", "flush_delayed_work", "cancel_work_sync", "cancel_delayed_work_sync"),
    *("kthread_stop", "vmalloc*", "kvmalloc*", "vfree"),
)
"""Functions that may sleep whenever they are called. Underscores before a name do not count."""

BY_FLAGS = (
    *("kmalloc*", "kmem_cache_alloc*", "krealloc*", "kmemdup*", "kstrdup*"),
    *("alloc_pages*", "alloc_percpu*", "pcpu_alloc*", "folio_alloc*", "get_free_pages*"),
    *("mempool_alloc*", "sock_alloc_send_*", "alloc_skb*"),
)
"""Functions that may sleep if the flags of the call (GFP) allow it, which is not looked at."""

NEVER = (
    *("*trylock*", "*_nosleep*", "*_nofault*", "*_nmi", "*_inatomic*", "*_highpage"),
    *("schedule_work*", "schedule_delayed_work*", "schedule_tail", "wait_for_xmitr"),
    *("vmalloc_to_*", "lock_page_memcg*", "lock_page_lruvec*"),
)
"""Names that are like those above, and do not sleep."""

_ENTRY = 12
"""Instructions at the entry that are shown."""
_THUNK = re.compile(r"__x86_indirect_(?:call_|jump_)?thunk_")
_TRAMPOLINE = "__SCT__"
"""A static call's: what it leads to now stands there, if it has not been put in the call itself."""


def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, names)))


_MAY_SLEEP, _BY_FLAGS, _NEVER = map(_pattern, (MAY_SLEEP, BY_FLAGS, NEVER))


@dataclass(frozen=True, slots=True)
class Jump:
    """A jump back, to what runs again then: offsets in the function, in bytes."""

    at: int
    to: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call, or a jump, out of the function: its offset, and what it leads to."""

    at: int
    to: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a function by its instructions.

    ``entry`` are its first instructions. ``pointers`` are offsets of calls and jumps to where a
    register or memory says; ``jumps_anywhere``: a jump is among them. ``is_whole`` is false when
    not all of it could be disassembled.
    """

    size: int
    instructions: int
    entry: tuple[Instruction, ...]
    loops: tuple[Jump, ...]
    sleeps: tuple[Call, ...]
    may_allocate: tuple[Call, ...]
    pointers: tuple[int, ...]
    calls: tuple[str, ...]
    is_whole: bool
    jumps_anywhere: bool = False


def look(body: Body, symbols: Symbols) -> Facts:
    """Look at a function's instructions."""
    start = body.symbol.address
    out = [
        Call(each.address - start, symbols.describe(each.target))
        for each in body.instructions
        if each.target and (each.is_call or not body.has(each.target))
    ]
    pointers = [each for each in body.instructions if _is_through_pointer(each, symbols)]
    return Facts(
        body.size,
        len(body.instructions),
        body.instructions[:_ENTRY],
        tuple(
            Jump(each.address - start, each.target - start)
            for each in body.instructions
            if each.is_jump and start <= each.target <= each.address and each.target
        ),
        tuple(each for each in out if may_sleep(each.to)),
        tuple(each for each in out if may_allocate(each.to)),
        tuple(each.address - start for each in pointers),
        tuple(sorted({each.to for each in out if not _THUNK.match(each.to)})),
        body.is_whole,
        any(each.is_jump for each in pointers),
    )


def _is_through_pointer(instruction: Instruction, symbols: Symbols) -> bool:
    """Tell whether an instruction calls or jumps to where a register or memory says."""
    if not instruction.is_call and not instruction.is_jump:
        return False
    return not instruction.target or bool(_THUNK.match(symbols.describe(instruction.target)))


def may_sleep(name: str) -> bool:
    """Tell whether a function of this name may sleep whenever it is called."""
    name = _bare(name)
    return bool(_MAY_SLEEP.match(name)) and not _NEVER.match(name)


def may_allocate(name: str) -> bool:
    """Tell whether a function of this name may sleep if its flags allow it."""
    return bool(_BY_FLAGS.match(_bare(name)))


def _bare(name: str) -> str:
    """Give a function's name without module, offset, suffix and underscores."""
    name = name.rpartition(":")[2].partition("+")[0].partition(".")[0]
    return name.removeprefix(_TRAMPOLINE).lstrip("_")
