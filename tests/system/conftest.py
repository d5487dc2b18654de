# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the service stand on: the machine, its log, and the installed service."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.kernel import guest
from tests.system.service import Service

SLOWEST = 1200.0


def pytest_sessionstart() -> None:
    """Refuse to run anywhere but in a guest with systemd: these tests install, and more."""
    if os.environ.get("DYNAMOS_IN_VM") != "1" or not Path("/run/systemd/system").is_dir():
        pytest.exit("tests/system needs a virtual machine with systemd: make test-service", 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test so much time that no machine is too slow."""
    for item in items:
        item.add_marker(pytest.mark.timeout(SLOWEST * guest.SLOWNESS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say how the service is when a test has failed."""
    report = yield
    if report.failed:
        report.sections.append(("the service", Service.describe()))
    return report


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """Give the service, installed and not started yet."""
    installed = Service()
    installed.install()
    yield installed
    installed.stop()
    guest.unload_all()


@pytest.fixture(autouse=True)
def all_is_well(service: Service) -> Iterator[None]:
    """Have the kernel be as the daemon wants it after each test, and no record lost."""
    log = guest.KernelLog()
    service.allow_starts()
    yield
    if not service.was_started:
        return
    try:
        guest.wait_until(service.is_running, "the service runs")
        guest.wait_until(service.agrees, "what is wanted and the kernel agree")
        guest.wait_until(service.has_lost_nothing, "each record is in both journals")
        assert log.complaints() == []
    finally:
        log.close()
