# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is not root may look, and nothing else."""

from __future__ import annotations

import os

import pytest

from tests.kernel import control, guest
from tests.kernel.guest import FUNCTIONS

pytestmark = pytest.mark.usefixtures("modules")


def as_nobody(*argv: str) -> tuple[int, str]:
    """Run a program without any privilege; gives its status and all it says."""
    drop = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
    done = guest.run(*drop, *argv)
    return done.returncode, done.stdout + done.stderr


def test_anyone_may_read_the_state() -> None:
    counter = control.READAHEAD / "functions" / FUNCTIONS[0] / "original/calls"
    files = [control.SYSFS / "version", control.READAHEAD / "active", counter]
    status, said = as_nobody("cat", *map(str, files))
    assert status == 0, said
    assert said.splitlines()[1] == "original"


def test_nobody_reads_a_kernel_address() -> None:
    address = control.READAHEAD / "functions" / FUNCTIONS[0] / "address"
    assert int(address.read_text(), 16) > 1 << 63
    status, said = as_nobody("cat", str(address))
    assert status != 0
    assert "Permission denied" in said
    assert "0x" not in said


def test_the_group_of_the_node_may_command() -> None:
    """Who may is for the node's owner to say, by its group and mode."""
    group = 4242
    member = ("setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups", "--inh-caps=-all")
    write = ("sh", "-c", "echo switch readahead random >/dev/dynamos")
    os.chown(control.DEVICE, 0, group)
    control.DEVICE.chmod(0o660)
    try:
        status, said = as_nobody(*write)
        assert status != 0
        assert "Permission denied" in said
        assert control.active() == "original"
        done = guest.run(*member, *write)
        assert done.returncode == 0, done.stderr
        assert control.active() == "random"
    finally:
        control.DEVICE.chmod(0o600)
        os.chown(control.DEVICE, 0, 0)


@pytest.mark.parametrize("mode", ["<", ">", "<>"])
def test_nobody_opens_the_device(mode: str) -> None:
    before = (control.active(), control.switches())
    status, said = as_nobody("sh", "-c", f"echo switch readahead random {mode}/dev/dynamos")
    assert status != 0
    assert "Permission denied" in said
    assert (control.active(), control.switches()) == before


def test_sysfs_is_read_only_for_root_too() -> None:
    for file in ("active", "mode", "switches"):
        assert control.READAHEAD.joinpath(file).stat().st_mode & 0o222 == 0
