# SPDX-License-Identifier: GPL-2.0-or-later
"""``dynamosctl edition inspect``: the report, the document, the exit codes."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamosd.cli import inspect as command
from dynamosd.cli import main, progress
from dynamosd.doctor import Machine
from dynamosd.kmod import Kmod
from dynamosd.testing import FakeModule
from tests.unit.workshop.kernel import NOP, RET, START, Kernel, Types, call

WIDTH = 80
ORDER = "page_cache_ra_order"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Give a kernel, which the command takes for the one that runs."""
    made = Kernel(
        tmp_path / "root",
        {
            ORDER: NOP + b"\x65\x48\x8b\x04\x25\x28\x00\x00\x00" + b"\xff\xd0\xeb\xf1" + RET,
            **{f"caller_with_a_long_name_{each}": b"" for each in range(30)},
        },
    )
    made.functions = {
        name: code or NOP + call(START + 32 + 16 * (number - 1) + 5, START) + RET
        for number, (name, code) in enumerate(made.functions.items())
    }
    made.write()
    types = Types()
    integer = types.integer("a_type_with_a_rather_long_name")
    types.function(ORDER, integer, ("first", integer), ("second", integer), ("third", integer))
    made.put("sys/kernel/btf/vmlinux", types.blob())
    monkeypatch.setattr(command, "Machine", lambda kmod: Machine(kmod, made.folder))
    return made


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the seconds that were slept: nobody does for real."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def run(module: FakeModule, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run it; give its exit code and what it printed."""
    code = main(["edition", "inspect", *words], module.kmod)
    shown, said = capsys.readouterr()
    assert "Traceback" not in said
    return code, shown or said


def document(module: FakeModule, capsys: pytest.CaptureFixture[str], *words: str) -> Any:  # noqa: ANN401 - JSON
    """Run it with ``-o json``."""
    code, shown = run(module, capsys, *words, "-o", "json")
    found = json.loads(shown)
    assert found["exit_code"] == code
    return found


def test_report(
    kernel: Kernel, module: FakeModule, capsys: pytest.CaptureFixture[str], slept: list[float]
) -> None:
    assert kernel.places[ORDER] == START
    (module.sysfs / "readahead/functions" / ORDER / "address").write_text(f"{START:#x}\n")
    code, shown = run(module, capsys, ORDER)
    assert slept == [1.0]
    assert "of this name" not in shown
    assert code == 0
    assert shown.startswith(f"{ORDER}: can be gated\n")
    for line in (
        "+0x0   0f 1f 44 00 00           nop dword ptr [rax + rax]",
        "+0x5   65 48 8b 04 25 28 00 …   mov rax, qword ptr gs:[0x28]",
        "callers in the kernel's text: 30",
        "- caller_with_a_long_name_0+0x5 (call)",
        "- and 10 more: --all, or -o json",
        "jumps back, so it may loop: to +0x3",
        "calls or jumps through pointers at +0xe",
        "readahead (gate: direct); active: original; editions: original, random",
        "original      0.0          0",
    ):
        assert line in shown
    assert max(map(len, shown.splitlines())) <= WIDTH
    _, whole = run(module, capsys, ORDER, "--all")
    assert "caller_with_a_long_name_29+0x5" in whole
    assert "more: --all" not in whole


@pytest.mark.usefixtures("kernel")
def test_document(module: FakeModule, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(module, capsys, ORDER)
    assert (found["apiVersion"], found["kind"]) == ("dynamos/v1alpha1", "Inspection")
    assert (found["verdict"], found["reasons"], found["address"]) == ("yes", [], f"{START:#x}")
    assert found["prototypes"][0]["parameters"][0][1] == "first"
    assert found["text"]["entry"][0] == {
        "offset": 0,
        "bytes": NOP.hex(),
        "text": "nop dword ptr [rax + rax]",
    }
    assert found["text"]["loops"] == [{"at": 16, "to": 3}]
    assert len(found["callers"]["sites"]) == 30
    [subsystem] = found["subsystems"]
    assert (subsystem["gated"], subsystem["by_address"]) == (True, False)
    assert found["missing"] == []


@pytest.mark.usefixtures("kernel")
def test_exit_codes(module: FakeModule, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(module, capsys, "page_cache_ra_ordre")["verdict"] == "no"
    code, shown = run(module, capsys, "page_cache_ra_ordre")
    assert (code, f'-> did you mean "{ORDER}"?' in shown) == (1, True)
    module.denied[ORDER] = (errno.EPERM, f"{ORDER} is not gated: it is RCU's")
    code, shown = run(module, capsys, ORDER)
    assert (code, "must not be gated\n  - page_cache_ra_order is not gated" in shown) == (6, True)
    assert run(module, capsys, "two words")[0] == 1


def test_what_cannot_be_read_is_said(
    kernel: Kernel, module: FakeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    (kernel.folder / "proc/kcore").unlink()
    code, shown = run(module, capsys, ORDER)
    assert code == 4
    assert "not known: entry, callers, loops" in shown
    assert "  a_type_with_a_rather_long_name\n  page_cache_ra_order(a_type" in shown
    assert document(module, capsys, ORDER)["callers"] is None


def test_holders_that_cannot_be_seen_are_said(
    kernel: Kernel, module: FakeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    (kernel.folder / "sys/kernel/debug/kprobes/list").unlink()
    code, shown = run(module, capsys, ORDER)
    assert (code, "nobody that can be seen here" in shown) == (4, True)
    assert "it has one of this name: the module does not show" in shown
    assert [each["what"] for each in document(module, capsys, ORDER)["missing"]] == ["kprobes"]


def test_an_unlikely_part_is_told(
    kernel: Kernel, module: FakeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (kernel.folder / "proc/kallsyms").read_text()
    kernel.put("proc/kallsyms", f"{names}{START + 0x8000:016x} t {ORDER}.cold\n")
    code, shown = run(module, capsys, ORDER)
    assert (code, f"not looked at:\n  {ORDER}.cold" in shown) == (0, True)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (NOP + RET, "no jump back: it does not loop itself"),
        (NOP + b"\xff\xd0" + RET, "no jump back: it does not loop itself"),
        (NOP + b"\xff\xe0", "no jump back was seen"),
        (NOP + b"\x06" + RET, "no jump back was seen"),
    ],
)
def test_that_it_loops_not_is_said_only_of_what_was_seen(
    kernel: Kernel, module: FakeModule, capsys: pytest.CaptureFixture[str], code: bytes, said: str
) -> None:
    kernel.functions = {ORDER: code}
    kernel.write()
    assert f"  {said}\n" in run(module, capsys, ORDER)[1]
    names = (kernel.folder / "proc/kallsyms").read_text()
    kernel.put("proc/kallsyms", f"{names}{START + 0x8000:016x} t {ORDER}.cold\n")
    assert "  no jump back was seen\n" in run(module, capsys, ORDER)[1]


def test_a_long_name_that_is_called_stays_whole(
    kernel: Kernel, module: FakeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    callee = "a_function_with_a_name_of_fifty_letters_as_some_are"
    kernel.functions = {ORDER: call(START, START + 16) + RET, callee: RET}
    kernel.write()
    _, shown = run(module, capsys, ORDER)
    assert f"  +0x0   e8 0b 00 00 00 call {callee}\n" in shown


def test_without_the_module(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["edition", "inspect", ORDER], Kmod(kernel.folder / "no", kernel.folder / "no"))
    assert code == 3
    shown = capsys.readouterr().out
    assert "nothing seen that speaks against a gate" in shown
    assert "modprobe dynamos" in shown


def test_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    tell = progress.Progress()
    tell("reading", 0.1)
    assert capsys.readouterr().err == ""
    now = 103.0
    tell("reading", 0.2)
    tell("reading", 0.3)
    tell("looking", 0.1)
    tell.close()
    assert capsys.readouterr().err == "dynamosctl: reading\ndynamosctl: looking\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tell("looking", 0.5)
    tell("looking", 0.5)
    tell.close()
    assert capsys.readouterr().err == "\rlooking: 50%\033[K\r\033[K"
