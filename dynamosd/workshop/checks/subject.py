# SPDX-License-Identifier: GPL-2.0-or-later
"""What the checks look at: a module, taken apart, and the kernel that it is for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dynamosd.errors import DynamosError
from dynamosd.workshop.checks import code, contents
from dynamosd.workshop.checks.code import Code
from dynamosd.workshop.checks.description import Description, Kind, describe
from dynamosd.workshop.checks.elf import Elf
from dynamosd.workshop.checks.kernel import Kernel


@dataclass
class Subject:
    """One module."""

    path: Path
    data: bytes = field(repr=False)
    elf: Elf
    description: Description
    kernel: Kernel

    @cached_property
    def modinfo(self) -> dict[str, str]:
        """What it says of itself."""
        return contents.modinfo(self.elf)

    @property
    def release(self) -> str:
        """The kernel that it was built for; "" if it does not say."""
        return self.modinfo.get("vermagic", "").partition(" ")[0]

    @cached_property
    def code(self) -> Code:
        """Its instructions. Raises `BadElf`."""
        return code.look(self.elf)

    @cached_property
    def depends(self) -> dict[str, Elf | None]:
        """The modules that it needs, by name; None for one that is not found."""
        names = [each for each in self.modinfo.get("depends", "").split(",") if each]
        return {name: self.kernel.module(name, self.path) for name in names[:_MOST_DEPENDS]}

    @cached_property
    def subsystem(self) -> Description | None:
        """Its subsystem, if the module that has it is found."""
        if self.description.kind is Kind.SUBSYSTEM:
            return self.description
        for elf in filter(None, self.depends.values()):
            with contextlib.suppress(DynamosError):
                found = describe(elf)
                if found.kind is Kind.SUBSYSTEM and found.subsystem == self.description.subsystem:
                    return found
        return None


_MOST_DEPENDS = 32
