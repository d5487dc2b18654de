# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for each parameter of an edition that names a cgroup."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.kernel import guest
from tests.kernel.control import Controlled, command
from tests.kernel.jobs import cgroup_root


def check_names(subsystem: Controlled, edition: str, name: str, group: Path) -> None:
    """See that a parameter takes the path of a cgroup that is there, and none else."""
    path = f"/{group.relative_to(cgroup_root())}"
    for value, answer in (
        (path, ""),
        (str(Path(path).parent), ""),
        ("/", ""),
        (f"{path}/nobody", "EINVAL"),
        (path.removeprefix("/"), "EINVAL"),
        (f"{path}/../{group.name}", "EINVAL"),
        ("", ""),
    ):
        before = subsystem.value("editions", edition, "parameters", name)
        said = guest.answer(partial(command, f"set {subsystem.name} {edition} {name}={value}"))
        assert said == answer, value
        now = subsystem.value("editions", edition, "parameters", name)
        assert now == (before if answer else value)


def check_removal(subsystem: Controlled, edition: str, name: str, parent: Path) -> None:
    """See that a parameter lets go of a cgroup that is removed, and means no other one."""
    group = parent / "gone"
    path = f"/{group.relative_to(cgroup_root())}"

    def is_now(value: str) -> bool:
        return subsystem.value("editions", edition, "parameters", name) == value

    group.mkdir()
    command(f"set {subsystem.name} {edition} {name}={path}")
    assert is_now(path)
    group.rmdir()
    assert is_now("")
    subsystem.switch_and_drain(edition)
    group.mkdir()
    assert is_now(""), "another one, of the same name"
    command(f"set {subsystem.name} {edition} {name}={path}")
    assert is_now(path)
    group.rmdir()
