# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.doctor: a good machine, and one fault at a time."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dynamosd import doctor
from dynamosd.cli import main
from dynamosd.doctor import PROBE_CONFIG, REQUIRED_CONFIG, Finding, Machine, Verdict, examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.testing import FakeModule

RELEASE = "6.1.0-1-amd64"
CONFIG = "".join(f"{name}=y\n" for name in {**REQUIRED_CONFIG, **PROBE_CONFIG})
ENTRIES = "page_cache_ra_order (1) R   D\tdirect-->gate+0x0/0x0\nvfs_read (1) R I\n"
PROBES = (
    "ffffffff81234560  k  page_cache_ra_order+0x0    [FTRACE]\nffffffff81234570  r  vfs_read+0x0\n"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the files of a machine on which everything is well."""
    files = {
        f"boot/config-{RELEASE}": CONFIG,
        "proc/sys/kernel/ftrace_enabled": "1\n",
        "proc/sys/kernel/tainted": "12288\n",
        "sys/kernel/tracing/events/enable": "0\n",
        "sys/kernel/tracing/enabled_functions": ENTRIES,
        "sys/kernel/btf/vmlinux": "",
        f"lib/modules/{RELEASE}/build/Makefile": "",
        "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
        "proc/self/status": "Name:\tdynamosctl\nCapEff:\t000001ffffffffff\n",
        "sys/kernel/debug/kprobes/list": PROBES,
        "sys/kernel/livepatch/klp_fix/vmlinux/vfs_read,1/x": "",
        "sys/firmware/efi/efivars/SecureBoot-8be4": "\6\0\0\0\0",
    }
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    return tmp_path / "root"


@pytest.fixture
def machine(root: Path, module: FakeModule) -> Machine:
    """Give that machine."""
    return Machine(module.kmod, root, RELEASE, "x86_64", 0)


def found(machine: Machine) -> dict[str, Finding]:
    """Give what is not well."""
    return {each.name: each for each in examine(machine) if each.verdict is not Verdict.OK}


def test_a_machine_on_which_all_is_well(machine: Machine) -> None:
    assert found(machine) == {}
    assert doctor.exit_code(examine(machine)) == 0


def write(name: str, text: str) -> Callable[[Path], object]:
    """Give what changes a file of the machine."""
    return lambda root: (root / name).write_text(text)


def remove(name: str) -> Callable[[Path], object]:
    """Give what takes a file of the machine away."""
    return lambda root: (root / name).unlink()


def livepatch(function: str) -> Callable[[Path], object]:
    """Give what makes a livepatch of a function."""
    name = f"sys/kernel/livepatch/klp_fix/vmlinux/{function},1"
    return lambda root: (root / name).mkdir()


@pytest.mark.parametrize(
    ("fault", "name", "verdict", "code"),
    [
        (
            write(f"boot/config-{RELEASE}", CONFIG.replace("CONFIG_MODULES=y", "")),
            "CONFIG_MODULES",
            Verdict.CANNOT,
            4,
        ),
        (remove(f"boot/config-{RELEASE}"), "kernel options", Verdict.WARN, 3),
        (write("proc/sys/kernel/ftrace_enabled", "0\n"), "ftrace_enabled", Verdict.FAIL, 1),
        (remove("sys/kernel/btf/vmlinux"), "type information (BTF)", Verdict.CANNOT, 4),
        (remove(f"lib/modules/{RELEASE}/build/Makefile"), "kernel headers", Verdict.FAIL, 1),
        (
            write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
            "lockdown",
            Verdict.WARN,
            3,
        ),
        (
            write("sys/firmware/efi/efivars/SecureBoot-8be4", "\6\0\0\0\1"),
            "Secure Boot",
            Verdict.WARN,
            3,
        ),
        (write("proc/sys/kernel/tainted", "640\n"), "taints", Verdict.FAIL, 1),
        (write("proc/sys/kernel/tainted", "512\n"), "taints", Verdict.WARN, 3),
        (
            write("sys/kernel/tracing/enabled_functions", ENTRIES.replace("(1)", "(2)")),
            "functions' entries",
            Verdict.WARN,
            3,
        ),
        (
            write("sys/kernel/tracing/enabled_functions", "page_cache_ra_order (1) R I\n"),
            "functions' entries",
            Verdict.WARN,
            3,
        ),
        (write("proc/self/status", "CapEff:\t00000000a80425fb\n"), "capabilities", Verdict.WARN, 3),
        (livepatch("page_cache_ra_order"), "livepatches", Verdict.WARN, 3),
    ],
)
def test_one_fault(
    machine: Machine, fault: Callable[[Path], object], name: str, verdict: Verdict, code: int
) -> None:
    fault(machine.root)
    faults = found(machine)
    assert list(faults) == [name]
    assert faults[name].verdict is verdict
    assert faults[name].remedy
    assert doctor.exit_code(examine(machine)) == code


def test_rights_and_neighbours_are_named(machine: Machine) -> None:
    livepatch("page_cache_ra_order")(machine.root)
    write("proc/self/status", "CapEff:\t00000000a80425fb\n")(machine.root)
    seen = {each.name: each.seen for each in examine(machine)}
    assert seen["livepatches"] == "page_cache_ra_order by klp_fix"
    assert seen["kprobes"] == "also on: page_cache_ra_order"
    assert seen["capabilities"] == "without CAP_SYS_MODULE, CAP_PERFMON, CAP_BPF"


def test_options_from_proc(machine: Machine) -> None:
    (machine.root / f"boot/config-{RELEASE}").unlink()
    (machine.root / "proc/config.gz").write_bytes(gzip.compress(CONFIG.encode()))
    assert found(machine) == {}
    (machine.root / "proc/config.gz").write_bytes(b"no gzip")
    assert list(found(machine)) == ["kernel options"]


def test_other_architecture_and_other_user(root: Path, module: FakeModule) -> None:
    faults = found(Machine(module.kmod, root, RELEASE, "aarch64", 1000))
    assert list(faults) == ["kernel", "root"]


def test_bcc_is_missing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert found(machine)["BCC"].remedy == "apt install python3-bpfcc"


@pytest.mark.parametrize(("status", "verdict"), [(0, Verdict.WARN), (1, Verdict.FAIL)])
def test_module_not_loaded(
    machine: Machine,
    module: FakeModule,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    verdict: Verdict,
) -> None:
    module.remove()
    done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess([], status)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: done)
    assert found(machine)["module"].verdict is verdict


def test_module_that_is_switched_off(machine: Machine, module: FakeModule) -> None:
    (seen,) = [each.seen for each in examine(machine) if each.name == "safety"]
    assert seen == "switched on; tripwire oops"
    module.enable(0)
    finding = found(machine)["safety"]
    assert finding.verdict is Verdict.WARN
    assert finding.seen == "the module is switched off (enable=0); tripwire oops"
    assert "echo 1 > /sys/module/dynamos/parameters/enable" in finding.remedy


def test_tripwire_that_is_off(machine: Machine, module: FakeModule) -> None:
    (module.settings / "tripwire").write_text("off\n")
    finding = found(machine)["safety"]
    assert (finding.seen, finding.verdict) == ("switched on; tripwire off", Verdict.WARN)
    assert "echo oops >" in finding.remedy


def test_module_without_a_tripwire(machine: Machine, module: FakeModule) -> None:
    for path in module.settings.iterdir():
        path.unlink()
    assert found(machine) == {}


def test_edition_in_quarantine(machine: Machine, module: FakeModule) -> None:
    module.trip("readahead", "random")
    finding = found(machine)["quarantine"]
    assert finding.seen == "readahead/random: oops"
    assert "dynamosctl edition clear readahead random" in finding.remedy


def test_nothing_at_all_is_there(tmp_path: Path, module: FakeModule) -> None:
    findings = examine(Machine(module.kmod, tmp_path / "empty", RELEASE, "x86_64", 0))
    assert Verdict.FAIL in {each.verdict for each in findings}


def test_every_finding_that_is_not_well_has_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "-o", "json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == code
    assert all(each["remedy"] for each in answer["findings"] if each["verdict"] != "ok")
    assert main(["doctor"]) == code
    assert "kernel" in capsys.readouterr().out
