# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel that a module is checked against: what it exports, its types, how it takes modules.

That is the running one, or another whose headers are below ``/lib/modules``. What cannot be read is
None, and each check says what it could not look at.
"""

from __future__ import annotations

import contextlib
import mmap
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from dynamosd.doctor import Machine, configuration, lockdown
from dynamosd.errors import DynamosError
from dynamosd.workshop import symbols
from dynamosd.workshop.btf import Btf
from dynamosd.workshop.checks import contents, file
from dynamosd.workshop.checks.elf import EXECUTABLE, BadElf, Elf
from dynamosd.workshop.symbols import Symbols

MODULES = "lib/modules"
SIG_ENFORCE = "sys/module/module/parameters/sig_enforce"
_BTF = "sys/kernel/btf"
_FLAGS = (
    ("CONFIG_SMP", "SMP"),
    ("CONFIG_PREEMPT_BUILD", "preempt"),
    ("CONFIG_PREEMPT_RT", "preempt_rt"),
    ("CONFIG_MODULE_UNLOAD", "mod_unload"),
    ("CONFIG_MODVERSIONS", "modversions"),
)
"""Words of a vermagic behind the release (include/linux/vermagic.h), and what they come from."""
_SYMVERS = re.compile(r"^0x([0-9a-f]{1,16})\t([^\t\n]+)\t", re.MULTILINE)
_FOLDERS_ABOVE = 3
"""Where a build has the modules that another one needs: beside it, or above."""


class Kernel:
    """One kernel."""

    def __init__(self, machine: Machine, *, is_running: bool = True) -> None:
        """Read nothing yet.

        Args:
            machine: where its files are; ``release`` names the kernel.
            is_running: it is the one that runs.
        """
        self.machine = machine
        self.release = machine.release
        self.is_running = is_running
        self._modules: dict[Path, Elf | None] = {}

    @cached_property
    def _folder(self) -> Path:
        return self.machine.root / MODULES / self.release

    @property
    def is_known(self) -> bool:
        """Whether there is anything of it here."""
        return self.is_running or self._folder.is_dir()

    @cached_property
    def options(self) -> Mapping[str, str]:
        """Its build options; empty when they are not to be had."""
        return configuration(self.machine) or {}

    @cached_property
    def flags(self) -> tuple[str, ...] | None:
        """What a module's vermagic must have behind the release."""
        if not self.options:
            return None
        return tuple(word for option, word in _FLAGS if self.options.get(option) == "y")

    @cached_property
    def exports(self) -> Mapping[str, int] | None:
        """What it and its own modules export, with checksums."""
        text = self.machine.text(f"{MODULES}/{self.release}/build/Module.symvers")
        if text is None:
            return None
        return {name: int(crc, 16) for crc, name in _SYMVERS.findall(text)}

    @cached_property
    def symbols(self) -> Symbols | None:
        """All names, if it is running and shows them."""
        if not self.is_running:
            return None
        with contextlib.suppress(DynamosError):
            return symbols.read(self.machine.root)
        return None

    @cached_property
    def _dependencies(self) -> dict[str, Path]:
        """The files of its modules, by the names that they have when they are loaded."""
        lines = (self.machine.text(f"{MODULES}/{self.release}/modules.dep") or "").splitlines()
        paths = [self._folder / line.partition(":")[0] for line in lines if ":" in line]
        return {loaded_name(path.name): path for path in paths}

    def module(self, name: str, beside: Path | None = None) -> Elf | None:
        """Give a module that another one needs; None when it is not found, or is broken.

        Args:
            name: as it is when it is loaded.
            beside: the file that needs it: looked for there, and above, first.
        """
        for path in self._places(name, beside):
            if path not in self._modules:
                self._modules[path] = _read(path)
            if found := self._modules[path]:
                return found
        return None

    def _places(self, name: str, beside: Path | None) -> list[Path]:
        folders = list(beside.absolute().parents)[:_FOLDERS_ABOVE] if beside else []
        near = [folder / f"{name}.ko" for folder in folders if "/" not in name]
        known = self._dependencies.get(loaded_name(name))
        return near + ([known] if known else [])

    @cached_property
    def btf(self) -> Btf | None:
        """Its types."""
        if self.is_running:
            with contextlib.suppress(OSError, DynamosError):
                path = self.machine.root / _BTF / "vmlinux"
                return Btf(path.read_bytes(), None, str(path))
        with contextlib.suppress(OSError, ValueError, DynamosError):
            path = self._folder / "build/vmlinux"
            return Btf(_section(path, ".BTF"), None, str(path))
        return None

    def module_btf(self, name: str) -> Btf | None:
        """Give the types of one of its modules."""
        if self.is_running:
            with contextlib.suppress(OSError, DynamosError):
                path = self.machine.root / _BTF / name
                return Btf(path.read_bytes(), self.btf, str(path))
        elf = self.module(name)
        with contextlib.suppress(DynamosError):
            return Btf(elf.content(elf.section(".BTF")), self.btf, name) if elf else None
        return None

    @property
    def enforcement(self) -> str:
        """Why it takes signed modules only; "" when it takes others, or does not say."""
        if self.options.get("CONFIG_MODULE_SIG_FORCE") == "y":
            return "it is built to take signed modules only (CONFIG_MODULE_SIG_FORCE)"
        if not self.is_running:
            return ""
        state = lockdown(self.machine)
        if state not in {"", "none"}:
            return f"it is locked down ({state})"
        if (self.machine.text(SIG_ENFORCE) or "").strip() in {"Y", "1"}:
            return "it takes signed modules only (module.sig_enforce)"
        return ""


def loaded_name(name: str) -> str:
    """Give the name that a file's module has when it is loaded."""
    return name.partition(".")[0].replace("-", "_")


def exports_of(elf: Elf | None) -> Mapping[str, int | None]:
    """Give what a module exports; nothing if there is none, or it is broken."""
    with contextlib.suppress(BadElf):
        return contents.exports(elf) if elf else {}
    return {}


def _read(path: Path) -> Elf | None:
    with contextlib.suppress(DynamosError):
        return Elf(file.read(path))
    return None


def _section(path: Path, name: str) -> bytes:
    """Give a section of the kernel's own file, which may have gigabytes of others."""
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as data:
        elf = Elf(data, EXECUTABLE)
        return elf.content(elf.section(name))
