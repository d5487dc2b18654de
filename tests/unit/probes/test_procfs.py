# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.probes.procfs: the host's figures, and why one is not there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dynamosd.model import RESOURCES, STALLS, CpuTimes
from dynamosd.probes.procfs import NO_PSI, PROC, read_host
from dynamosd.testing import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "proc")


def test_everything_is_read(host: FakeHost) -> None:
    host.stall("io", some=1.5, full=0.25)
    host.run(busy=300, idle=100)
    host.remember(total=8000, available=2000)
    sample = read_host(12.0, host.proc)
    assert sample.time == 12.0
    assert sample.stalled["io", "some"] == pytest.approx(1.5)
    assert sample.stalled["io", "full"] == pytest.approx(0.25)
    assert sample.stalled["cpu", "full"] == 0.0
    assert sample.cpu == CpuTimes(300, 100)
    assert sample.memory_available == 0.25
    assert sample.lacks == {}


def test_guests_are_not_counted_twice(host: FakeHost) -> None:
    (host.proc / "stat").write_text("cpu  100 10 20 500 50 1 2 3 90 9\ncpu0 1 2 3\n")
    assert read_host(0.0, host.proc).cpu == CpuTimes(busy=136, idle=550)


def test_without_psi_it_says_how_to_have_it(host: FakeHost) -> None:
    host.switch_psi_off()
    sample = read_host(0.0, host.proc)
    assert sample.stalled == {}
    assert sample.lacks == dict.fromkeys(RESOURCES, NO_PSI)
    assert "psi=1" in NO_PSI
    assert sample.cpu is not None


def test_a_file_that_may_not_be_read_means_the_same(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path.read_text

    def read_text(path: Path, encoding: str | None = None) -> str:
        if path.parent.name == "pressure":
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return before(path, encoding)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert read_host(0.0, host.proc).lacks == dict.fromkeys(RESOURCES, NO_PSI)


def test_an_older_kernel_has_no_full_of_the_cpu(host: FakeHost) -> None:
    (host.proc / "pressure" / "cpu").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")
    sample = read_host(0.0, host.proc)
    assert ("cpu", "some") in sample.stalled
    assert ("cpu", "full") not in sample.stalled
    assert ("io", "full") in sample.stalled


@pytest.mark.parametrize(
    ("file", "text", "lack", "says"),
    [
        ("pressure/io", "some avg10=1\n", "io", "a line without a total"),
        ("pressure/io", "some total=x\n", "io", "cannot be read"),
        ("pressure/io", "sömé\n", "io", "cannot be read"),
        ("stat", "", "stat", "no times of all CPUs"),
        ("stat", "cpu 1 2 3\n", "stat", "no times of all CPUs"),
        ("stat", "cpu0 1 2 3 4 5 6 7 8 9\n", "stat", "no times of all CPUs"),
        ("stat", "cpu a b c d e f g h\n", "stat", "cannot be read"),
        ("meminfo", "MemTotal: 5 kB\n", "meminfo", "no MemTotal and MemAvailable"),
        ("meminfo", "MemTotal: 0 kB\nMemAvailable: 0 kB\n", "meminfo", "no MemTotal"),
    ],
)
def test_what_cannot_be_understood_is_missing(
    host: FakeHost, file: str, text: str, lack: str, says: str
) -> None:
    (host.proc / file).write_text(text)
    sample = read_host(0.0, host.proc)
    assert says in sample.lacks[lack]
    assert len(sample.lacks) == 1


def test_files_that_are_gone_are_told(host: FakeHost) -> None:
    (host.proc / "stat").unlink()
    (host.proc / "meminfo").unlink()
    sample = read_host(0.0, host.proc)
    assert (sample.cpu, sample.memory_available) == (None, None)
    assert "No such file" in sample.lacks["stat"]
    assert "No such file" in sample.lacks["meminfo"]


def test_this_machine() -> None:
    """Whatever kernel this is: it has CPUs and memory, and pressure or the reason why not."""
    sample = read_host(0.0)
    assert sample.cpu is not None
    assert sample.cpu.busy > 0
    assert sample.memory_available is not None
    assert 0.0 < sample.memory_available <= 1.0
    if (PROC / "pressure").is_dir() and not sample.lacks:
        assert {(resource, "some") for resource in RESOURCES} <= sample.stalled.keys()
        assert all(kind in STALLS and spent >= 0.0 for (_, kind), spent in sample.stalled.items())
    else:
        assert sample.lacks == dict.fromkeys(RESOURCES, NO_PSI)
