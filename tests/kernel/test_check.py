# SPDX-License-Identifier: GPL-2.0-or-later
"""`edition check` and `edition load` about the kernel that runs: what is shipped, what is unfit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynamosd.cli import main
from dynamosd.doctor import Machine
from dynamosd.workshop.checks.description import Kind
from dynamosd.workshop.checks.finding import Verdict
from dynamosd.workshop.checks.kernel import Kernel
from dynamosd.workshop.checks.report import Report, check
from tests.kernel import control, guest
from tests.kernel.guest import CORE, RANDOM, STREAMING, SUBSYSTEM, TARGET

UPDATES = Path("/lib/modules", os.uname().release, "updates")
DENIED = "dynamos_selftest_schedule"
Load = Callable[[str | Path], tuple[int, str]]
TESTS_OWN = ("dynamos_selftest", "dynamos_target", "dynamos_livepatch")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that only root can write."""
    made = Path("/dev/shm/dynamos-check")  # noqa: S108 - the guest's, which goes with it
    made.mkdir(mode=0o700)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """Give the running one; what it exports and its types are read once."""
    return Kernel(Machine())


def shipped() -> list[Path]:
    """Give the modules that are no tests'."""
    return [each for each in UPDATES.glob("*.ko") if not each.name.startswith(TESTS_OWN)]


def unpassed(report: Report) -> dict[str, str]:
    """Give what has not passed, and what was seen of it."""
    return {each.name: each.seen for each in report.findings if each.verdict is not Verdict.PASSED}


@pytest.fixture
def load(capsys: pytest.CaptureFixture[str]) -> Load:
    """Give `edition load`: its exit code, and what it showed or complained of.

    Not as a program of its own: to start that takes longer than all it does here.
    """

    def command(name: str | Path) -> tuple[int, str]:
        code = main(["edition", "load", str(name)])
        shown, said = capsys.readouterr()
        return code, said if code else shown

    return command


@pytest.mark.usefixtures("bare")
def test_what_is_shipped_passes(kernel: Kernel) -> None:
    guest.insert(CORE)
    kinds = []
    for path in shipped():
        report = check(path, kernel)
        assert report.description
        kinds.append(report.description.kind)
        if report.description.kind is not Kind.CORE:
            wanted = {"modes"} if report.description.kind is Kind.SUBSYSTEM else set()
            assert set(unpassed(report)) == wanted, (path, unpassed(report))
        assert report.exit_code == 0, (path, unpassed(report))
    assert kinds.count(Kind.CORE) == 1
    assert kinds.count(Kind.SUBSYSTEM) >= 2
    assert kinds.count(Kind.EDITION) >= 3
    assert guest.loaded() == [CORE]


@pytest.mark.usefixtures("bare")
def test_the_tests_own_editions_are_taken_for_what_they_are(kernel: Kernel) -> None:
    """Whatever of them the kernel module takes passes; functions of a module have its types."""
    guest.load_all((CORE, TARGET))
    for name in (
        guest.SELFTEST,
        guest.SELFTEST_B,
        guest.SELFTEST_LAYOUT,
        "dynamos_selftest_atomic_b",
    ):
        report = check(UPDATES / f"{name}.ko", kernel)
        assert report.exit_code == 0, (name, unpassed(report))
        assert "prototypes" not in unpassed(report)


@pytest.mark.usefixtures("bare")
def test_the_program() -> None:
    done = guest.run("dynamosctl", "edition", "check", str(UPDATES / f"{RANDOM}.ko"), "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["module"]["subsystem"], found["module"]["edition"]) == ("readahead", "random")
    verdicts = {each["name"]: each["verdict"] for each in found["checks"]}
    assert verdicts["gates"] == "not applicable"
    assert guest.loaded() == []


@pytest.mark.usefixtures("bare")
def test_loading_by_name_and_by_file(load: Load) -> None:
    code, said = load("readahead/random")
    assert (code, said) == (0, "loaded readahead/original, readahead/random\n")
    assert guest.loaded() == sorted((CORE, SUBSYSTEM, RANDOM))
    code, said = load(UPDATES / f"{STREAMING}.ko")
    assert (code, said) == (0, "loaded readahead/streaming\n")
    assert load("readahead/streaming") == (0, "readahead/streaming was loaded already\n")
    assert control.active() == "original"


@pytest.mark.usefixtures("bare")
def test_what_must_not_be_gated_is_not_loaded(kernel: Kernel, load: Load) -> None:
    guest.insert(CORE)
    untouched = guest.enabled_functions()
    report = check(UPDATES / f"{DENIED}.ko", kernel)
    assert [each.name for each in report.bad] == ["gates"]
    with control.Follower() as events:
        code, said = load(UPDATES / f"{DENIED}.ko")
        # The kernel module was asked, and had nothing to load.
        assert [each.fields["command"] for each in events.read()] == ["check schedule"]
    assert code == 6
    assert "schedule is not gated: somebody is always inside it" in said
    assert guest.loaded() == [CORE]
    assert guest.enabled_functions() == untouched


@pytest.mark.usefixtures("bare")
def test_an_unfit_file_is_not_loaded(folder: Path, load: Load) -> None:
    guest.load_all((CORE, SUBSYSTEM))
    good = (UPDATES / f"{RANDOM}.ko").read_bytes()
    file = folder / f"{RANDOM}.ko"
    vermagic = f"vermagic={os.uname().release}".encode()
    for content, mode, code, said in (
        (good[: len(good) // 2], 0o644, 1, "it is cut off"),
        (good.replace(vermagic, vermagic[:-1] + b"X"), 0o644, 1, "it is built for"),
        (
            good.replace(b"page_cache_ra_unbounded\0", b"page_cache_ra_unbounde_\0"),
            0o644,
            1,
            "missing",
        ),
        (good, 0o666, 6, "can be written by others"),
        (b"", 0o644, 1, "no ELF file"),
    ):
        file.write_bytes(content)
        file.chmod(mode)
        ended, complaint = load(file)
        assert (ended, said in complaint) == (code, True), complaint
        assert guest.loaded() == sorted((CORE, SUBSYSTEM)), said
    file.chmod(0o644)
    file.write_bytes(good)
    assert load(file)[0] == 0
    assert RANDOM in guest.loaded()
