# SPDX-License-Identifier: GPL-2.0-or-later
"""What every test of the module stands on: the machine, its log, the modules, files to read."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import checkers, control, guest, target
from tests.kernel.guest import CORE, SELFTEST, SELFTEST_MODULES
from tests.kernel.shares import cost, group, shared_out

MIB = 1 << 20
SLOWEST = 1200.0


def pytest_sessionstart() -> None:
    """Refuse to run anywhere but in the guest: these tests load modules as root."""
    if os.environ.get("DYNAMOS_IN_VM") != "1":
        pytest.exit("tests/kernel runs inside the virtual machine: make test-kernel", 4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what another kernel runs; give the rest so much time that no machine is too slow."""
    leave_to_others(config, items)
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = marker.args[0] if marker else SLOWEST
        item.add_marker(pytest.mark.timeout(seconds * guest.SLOWNESS), append=False)


def leave_to_others(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take away the tests that one kernel is enough for and that are another one's."""
    here = os.environ["DYNAMOS_KERNEL"]
    kernels = os.environ.get("DYNAMOS_TOGETHER", here).split()
    group_of = {item: name for item in items if (name := group_of_item(item))}
    counts = Counter(group_of.values())
    kernel_of = shared_out({each: cost(each, count) for each, count in counts.items()}, kernels)
    left = [item for item, name in group_of.items() if kernel_of[name] != here]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def group_of_item(item: pytest.Item) -> str | None:
    """Name the group that a test is shared out with, if it is."""
    mark = item.get_closest_marker("one_kernel")
    call = getattr(item, "callspec", None)
    backend = call.params.get("backend") if call else None
    return group(item.nodeid, backend, mark and mark.kwargs)


@pytest.fixture(scope="session")
def kernel_log() -> Iterator[guest.KernelLog]:
    """Give what the kernel logs from the beginning of the tests on."""
    log = guest.KernelLog()
    yield log
    log.close()


@pytest.fixture(autouse=True)
def kernel_is_well(kernel_log: guest.KernelLog) -> Iterator[None]:
    """Fail a test during which the kernel has warned of anything that it had not expected."""
    yield
    complaints = kernel_log.complaints()
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session", autouse=True)
def kernel_stays_well(kernel_log: guest.KernelLog) -> Iterator[None]:
    """Fail, when nothing of ours is loaded any more, for what only shows then."""
    yield
    guest.unload_all()
    found = checkers.leaks()
    if not checkers.locks_are_checked() and not kernel_log.has_died():
        found.append("lockdep is off: it has reported something, or has run out of memory")
    found += kernel_log.complaints()
    assert not found, "\n".join(found)


@pytest.fixture(scope="session")
def disk() -> Path:
    """An empty folder on the scratch disk."""
    place = os.environ.get("DYNAMOS_DISK")
    assert place, "these tests need a scratch disk: make vm DISK=600M"
    folder = Path(place) / "tests"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def disk_name() -> str:
    """The scratch disk's name in /sys/block."""
    return os.environ["DYNAMOS_DISK_NAME"]


@pytest.fixture(scope="session")
def data(disk: Path) -> Path:
    """A file of 16 MiB that no two blocks of are alike."""
    path = disk / "data"
    path.write_bytes(random.Random(1).randbytes(16 * MIB))  # noqa: S311 (only to be different)
    return path


@pytest.fixture
def bare() -> Iterator[None]:
    """None of our modules is loaded."""
    guest.unload_all()
    yield
    guest.unload_all()


@pytest.fixture
def modules() -> Iterator[None]:
    """All of our modules are loaded, `original` is active, and nothing else can be called."""
    guest.load_all()
    control.switch_and_drain("original")
    control.wait_until_drained()
    yield
    if guest.SUBSYSTEM in guest.loaded():
        control.switch_and_drain("original")


# ---------------------------------------------------------------------- the self-test's modules


@pytest.fixture(scope="module", params=["direct", "ftrace"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name the back end that all of a test module's gates use; its tests run with each.

    A test module that needs one only says so:
    ``pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")``.
    """
    guest.unload_all()
    guest.insert(CORE)
    with guest.backend(request.param):
        yield request.param
    guest.unload_all()


@pytest.fixture
def selftest(backend: str) -> Iterator[control.Controlled]:
    """Give the subsystem `selftest`, all there, with `original` active, and no object.

    Its modules stay for the next test, which finds them as if they had just been loaded, except
    for what they have counted.
    """
    guest.load_all(SELFTEST_MODULES)
    subsystem = control.Controlled("selftest")
    assert subsystem.backend("target_value") == backend
    yield subsystem
    if SELFTEST in guest.loaded():
        guest.let_callers_go()
        subsystem.switch_and_drain("original", "timeout_ms=60000")
        subsystem.wait_until_drained()
    if guest.TARGET in guest.loaded():
        guest.wait_until(lambda: target.Target().waiting() == 0, "nobody is in target_block")
        assert target.Target().result("wrong") == 0, "an object was seen in the wrong layout"
        target.free(target.KEYS)
