# SPDX-License-Identifier: GPL-2.0-or-later
"""`edition inspect` about the kernel that runs: what it says, against what the kernel does.

`DYNAMOS_INSPECT` says how many functions are drawn at random; `make inspect` draws 500 on each
kernel. What is said to be gateable gets a gate, which leads straight back.
"""

from __future__ import annotations

import json
import os
import random
import re
import struct
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dynamosd.doctor import Machine
from dynamosd.workshop.callers import How
from dynamosd.workshop.gating import Verdict
from dynamosd.workshop.holders import Kind
from dynamosd.workshop.inspection import Inspection, Inspector
from dynamosd.workshop.kcore import Kcore
from tests.kernel import control, guest
from tests.kernel.guest import CORE, TARGET, TRACING

ANY = "dynamos_selftest_any"
FUNCTIONS = int(os.environ.get("DYNAMOS_INSPECT", "12"))
SEED = int(os.environ.get("DYNAMOS_SEED", "1"))
AT_ONCE = 100
"""Functions that are gated together: their names are one write."""
MANY_CALLERS = 30
"""Places that are looked at of a function that was drawn: the known ones have all looked at."""
NOBODY = 65534
SHORT_JUMP = 0xEB
SECONDS_EACH = 10
"""For a function that is drawn: far more than one takes anywhere."""


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    """Give one for all tests, beside the modules that they ask about."""
    guest.unload_all()
    guest.load_all((CORE, TARGET, guest.SELFTEST, guest.SELFTEST_B, guest.SUBSYSTEM, guest.RANDOM))
    guest.insert(ANY)
    with Inspector(Machine()) as made:
        yield made
    guest.unload_all()


def where(found: Inspection) -> set[str]:
    """Give the functions that lead to one."""
    assert found.callers
    return {each.where.partition("+")[0] for each in found.callers.sites}


def text(found: Inspection) -> str:
    """Give the only prototype."""
    [prototype] = found.prototypes
    return prototype.text


# -------------------------------------------------------------------------- functions one knows


def test_vfs_read(inspector: Inspector) -> None:
    found = inspector.inspect("vfs_read")
    assert (found.judgement.verdict, found.exit_code) == (Verdict.YES, 0)
    assert (
        text(found) == "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)"
    )
    assert {"ksys_read", "__x64_sys_pread64"} <= where(found)
    assert found.entry[0].startswith(("nop", "endbr64"))
    assert not found.holders


def test_pipe_read(inspector: Inspector) -> None:
    found = inspector.inspect("pipe_read")
    assert found.judgement.verdict is Verdict.YES
    assert text(found) == "ssize_t pipe_read(struct kiocb *iocb, struct iov_iter *to)"
    assert found.callers
    assert any(each.startswith("pipefifo_fops+") for each in found.callers.pointers)
    assert found.body
    assert any("mutex_lock" in each.to for each in found.body.sleeps)
    assert found.body.loops


def test_a_function_that_is_gated(inspector: Inspector) -> None:
    found = inspector.inspect("page_cache_ra_order")
    assert found.judgement.verdict is Verdict.YES
    assert text(found) == (
        "void page_cache_ra_order(struct readahead_control *ractl, "
        "struct file_ra_state *ra, unsigned int new_order)"
    )
    assert "filemap_fault" in where(found)
    assert [each.kind for each in found.holders] == [Kind.GATE]
    assert any("dynamos_gate_page_cache_ra_order" in each for each in found.entry), found.entry
    [standing] = found.standings
    assert (standing.subsystem, standing.is_gated) == ("readahead", True)
    assert standing.by_address
    assert standing.editions == ("original", "random")
    assert all(each.calls_per_second >= 0 <= each.in_flight for each in standing.rates)


def test_schedule_is_denied(inspector: Inspector) -> None:
    found = inspector.inspect("schedule")
    assert (found.judgement.verdict, found.exit_code) == (Verdict.DENIED, 6)
    assert "somebody is always inside" in found.judgement.reasons[0].text
    assert text(found) == "void schedule(void)"
    assert found.body
    assert any(each.to == "__schedule" for each in found.body.sleeps)


def test_variable_arguments(inspector: Inspector) -> None:
    found = inspector.inspect("seq_printf")
    assert text(found) == "void seq_printf(struct seq_file *m, const char *f, ...)"
    assert (found.judgement.verdict, found.exit_code) == (Verdict.NO, 1)


def test_a_name_that_is_none(inspector: Inspector) -> None:
    found = inspector.inspect("vfs_raed")
    assert (found.judgement.verdict, found.exit_code) == (Verdict.NO, 1)
    assert found.judgement.reasons[0].hint == 'did you mean "vfs_read"?'
    assert inspector.inspect("jiffies").exit_code == 1


def test_a_name_of_several(inspector: Inspector) -> None:
    counts = Counter(name for name, module in traceable() if not module)
    name = next(name for name, count in sorted(counts.items()) if count > 1)
    found = inspector.inspect(name)
    assert (found.judgement.verdict, found.exit_code) == (Verdict.NO, 1)
    assert f"{len(kallsyms()[name])} have the name {name}" in found.judgement.reasons[0].text


def test_functions_of_a_module(inspector: Inspector) -> None:
    found = inspector.inspect("target_many")
    assert found.named.symbol
    assert found.named.symbol.full_name == f"{TARGET}:target_many"
    assert found.exit_code == 0
    assert text(found) == (
        "long int target_many(long int a, long int b, long int c, long int d, long int e, "
        "long int f, long int g, long int h, long int i)"
    )
    outer = inspector.inspect(f"{TARGET}:target_outer").body
    assert outer
    assert f"{TARGET}:target_inner" in outer.calls
    assert inspector.inspect(f"{TARGET}:vfs_read").exit_code == 1


def test_kprobes_are_told(inspector: Inspector) -> None:
    events = TRACING / "kprobe_events"
    events.write_text("p:one vfs_write\np:two vfs_write+9\n")
    try:
        # Before they are enabled, they are not armed; the kernel lists them all the same.
        found = inspector.inspect("vfs_write")
    finally:
        events.write_text("")
    kinds = [each.kind for each in found.holders]
    assert (kinds.count(Kind.KPROBE), kinds.count(Kind.INSIDE)) == (1, 1)
    assert found.exit_code == 0


# ------------------------------------------------------------------------------- as a program


def test_the_program() -> None:
    done = guest.run("dynamosctl", "edition", "inspect", "vfs_read", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["verdict"], found["missing"]) == ("yes", [])
    assert "ksys_read" in {each["where"].partition("+")[0] for each in found["callers"]["sites"]}


def test_the_program_without_root() -> None:
    command = f"setpriv --reuid {NOBODY} --clear-groups dynamosctl edition inspect vfs_read"
    done = guest.run("bash", "-c", command)
    assert done.returncode == 4, done.stderr
    assert "ssize_t vfs_read(struct file *file" in done.stdout
    assert "sudo" in done.stdout


# -------------------------------------------------------------------------- functions at random


@cache
def traceable() -> tuple[tuple[str, str], ...]:
    """Give all functions that can be traced, with their modules."""
    lines = (TRACING / "available_filter_functions").read_text().splitlines()
    pairs = (line.split() for line in lines if not line.startswith("__ftrace_invalid"))
    return tuple((words[0], words[1].strip("[]") if len(words) > 1 else "") for words in pairs)


@cache
def kallsyms() -> dict[str, list[str]]:
    """Give the addresses of the kernel's own symbols by their names, as the kernel lists them."""
    found: dict[str, list[str]] = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        if "[" not in line:
            address, _, name = line.split()
            found.setdefault(name, []).append(address)
    return found


def gate(names: list[str]) -> None:
    """Put a gate that leads straight back at the entries of these functions, and no others."""
    Path("/sys/module", ANY, "parameters/functions").write_text(" ".join(names) + "\n")


def gated() -> set[str]:
    """Give the functions that have it, as ftrace says."""
    blocks = re.split(r"\n(?=\S)", guest.enabled_functions())
    return {each.split()[0] for each in blocks if "direct-->any_gate" in each}


@pytest.mark.timeout(1200 + SECONDS_EACH * FUNCTIONS)
def test_functions_at_random(inspector: Inspector) -> None:
    names = sorted({name for name, module in traceable() if not module})
    drawn = random.Random(SEED).sample(names, FUNCTIONS)  # noqa: S311 - the same in every run
    found = {name: inspector.inspect(name, MANY_CALLERS) for name in drawn}
    assert all(not each.missing for each in found.values())
    for name, each in found.items():
        confirm(name, each)
        confirm_callers(each)
    good = [name for name, each in found.items() if each.judgement.verdict is Verdict.YES]
    for start in range(0, len(good), AT_ONCE):
        batch = good[start : start + AT_ONCE]
        gate(batch)
        try:
            assert set(batch) == gated()
        finally:
            gate([])
    assert not gated()
    verdicts = Counter(str(each.judgement.verdict) for each in found.values())
    print(f"\n{len(drawn)} functions: {dict(verdicts)}, each yes gated")  # noqa: T201
    assert verdicts[Verdict.YES] > len(drawn) // 2


def confirm(name: str, found: Inspection) -> None:
    """Compare a verdict with what the kernel and its module say."""
    said = guest.answer(lambda: control.command(f"check {name}"))
    match found.judgement.verdict:
        case Verdict.YES:
            assert (said, len(kallsyms()[name])) == ("", 1), name
            assert found.body, name
            assert any(
                "nop dword ptr [rax + rax]" in each or each.startswith("call")
                for each in found.entry[:2]
            ), name
        case Verdict.DENIED:
            assert said == "EPERM", name
        case _:
            variadic = any(each.variadic for each in found.prototypes)
            assert said or len(kallsyms()[name]) > 1 or "." in name or variadic, name
    for each in found.prototypes:
        assert f"{name}(" in each.text
        assert each.variadic == each.text.endswith("...)")


def confirm_callers(found: Inspection) -> None:
    """Read the instructions that are said to lead to a function, and compute where they lead."""
    if not found.callers or not found.named.symbol:
        return
    wanted = found.named.symbol.address
    with Kcore(Path("/proc/kcore")) as memory:
        for site in found.callers.sites:
            if site.how not in {How.CALL, How.JUMP}:
                continue
            code = memory.read(site.address, 5)
            if site.how is How.JUMP and code[0] == SHORT_JUMP:
                code = code[:2]
            opcode, distance = struct.unpack("<Bb" if len(code) == 2 else "<Bi", code)
            assert opcode in {How.CALL: {0xE8}, How.JUMP: {0xE9, SHORT_JUMP}}[site.how], site
            assert site.address + len(code) + distance == wanted, site
