# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is known of a kernel function, as one answer.

An `Inspector` reads what does not change while it lives once, however many functions it is asked
about: names, types and text are some 60 MB. What cannot be read here is told in the answer, and
the rest is told all the same.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from dynamosd.doctor import Machine
from dynamosd.errors import DynamosError, InvalidInput, NotSupported
from dynamosd.kmod import ROOT_HINT
from dynamosd.workshop import body, gating, holders, kcore, names, standings, symbols
from dynamosd.workshop.body import Facts
from dynamosd.workshop.btf import Btf
from dynamosd.workshop.callers import Callers, Finder
from dynamosd.workshop.declarations import Prototype, prototype
from dynamosd.workshop.gating import Evidence, Judgement, Verdict
from dynamosd.workshop.holders import Holder
from dynamosd.workshop.kcore import Kcore
from dynamosd.workshop.missing import Missing, because, unreadable
from dynamosd.workshop.names import Named
from dynamosd.workshop.standings import Standing
from dynamosd.workshop.symbols import Symbol, Symbols
from dynamosd.workshop.text import Tell, Text

TRACEABLE = "sys/kernel/tracing/available_filter_functions"
BTF = "sys/kernel/btf"
MOST_CALLERS = 200
"""Places that are looked at, if nobody wants all."""

_NAME = re.compile(r"(?:[\w-]{1,63}:)?[\w.$]{1,511}", re.ASCII)
_DATA_HINT = "boot a kernel with CONFIG_KALLSYMS_ALL"
_BTF_HINT = "boot a kernel with CONFIG_DEBUG_INFO_BTF"


@dataclass(frozen=True, slots=True)
class Inspection:
    """The answer. ``body`` and ``callers`` are None when the text is not to be had."""

    named: Named
    judgement: Judgement
    prototypes: tuple[Prototype, ...]
    body: Facts | None
    entry: tuple[str, ...]
    callers: Callers | None
    holders: tuple[Holder, ...]
    standings: tuple[Standing, ...]
    missing: tuple[Missing, ...]

    @property
    def exit_code(self) -> int:
        """Give what a program ends with: docs/workshop.md has the table."""
        match self.judgement.verdict:
            case Verdict.DENIED:
                return 6
            case Verdict.NO:
                return 1
        if self.missing:
            return NotSupported.exit_code
        return 3 if self.judgement.verdict is Verdict.UNSURE else 0


class Inspector:
    """Inspects functions of the running kernel. Close it."""

    def __init__(self, machine: Machine, tell: Tell = lambda _what, _part: None) -> None:
        """Read nothing yet. ``tell`` is told what takes long, and how far it has come."""
        self._machine = machine
        self._tell = tell
        self._open = contextlib.ExitStack()
        self._modules: dict[str, Btf] = {}

    def close(self) -> None:
        """Close it."""
        self._open.close()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @cached_property
    def symbols(self) -> Symbols:
        """The kernel's names. Raises `NotSupported`."""
        self._tell("reading the kernel's symbols", 0.0)
        return symbols.read(self._machine.root)

    @cached_property
    def traceable(self) -> bytes | None:
        """What can be traced, a line each; None when only root may see it."""
        self._tell("reading what can be traced", 0.0)
        text = self._machine.text(TRACEABLE)
        return None if text is None else f"\n{text}".encode("utf-8", "replace")

    @cached_property
    def _vmlinux(self) -> Btf:
        return self._read_btf("vmlinux", None)

    def _btf(self, module: str) -> Btf:
        """Give type information, read once. Raises `DynamosError`."""
        if not module:
            return self._vmlinux
        if module not in self._modules:
            self._modules[module] = self._read_btf(module, self._vmlinux)
        return self._modules[module]

    def _read_btf(self, name: str, base: Btf | None) -> Btf:
        self._tell("reading the kernel's type information", 0.0)
        path = self._machine.root / BTF / name
        try:
            return Btf(path.read_bytes(), base, str(path))
        except OSError as error:
            hint = ROOT_HINT if isinstance(error, PermissionError) else _BTF_HINT
            raise NotSupported(f"{path}: {error.strerror}", hint=hint) from error

    @cached_property
    def text(self) -> Text:
        """The kernel's text. Raises `NotSupported`."""
        if not self.symbols.has_addresses:
            said = f"/{symbols.PATH} shows no addresses"
            hint = f"{ROOT_HINT}; sysctl kernel.kptr_restrict must not be 2"
            raise NotSupported(said, hint=hint)
        opened = self._open.enter_context(Kcore(self._machine.root / kcore.PATH))
        return Text(opened, self.symbols, self._tell)

    @cached_property
    def _finder(self) -> Finder:
        return Finder(self.text, self._tell)

    def inspect(
        self,
        function: str,
        most: int = MOST_CALLERS,
        pause: Callable[[float], None] | None = None,
    ) -> Inspection:
        """Tell all that is known of a function.

        Args:
            function: its name, with that of its module and a colon before it if it is a module's.
            most: how many places that may be callers are looked at.
            pause: waits, between two looks at the counters of one that is gated; else it sleeps.

        Raises:
            InvalidInput: this cannot be a name.
            NotSupported: the kernel shows no symbols.
        """
        if not _NAME.fullmatch(function):
            hint = "a function is named like function, or module:function"
            raise InvalidInput(f"{function[:64]!r} is not a function's name", hint=hint)
        named = names.find(self.symbols, function)
        missing: list[Missing] = []
        found = self._prototypes(named, missing)
        standing = standings.look(self._machine.kmod, named, missing, pause or time.sleep)
        is_redirected = any(each.backend == "ftrace" for each in standing)
        held = tuple(holders.find(self._machine, named.aliases, is_redirected=is_redirected))
        if self.traceable is None:
            blind = unreadable(self._machine, "what can be traced", TRACEABLE, holders.TRACEFS_HINT)
            missing += [blind] if blind else []
        missing += holders.unseen(self._machine)
        evidence = Evidence(named, self.symbols, self.traceable, found, held)
        facts, callers = self._look(named.symbol, most, missing)
        entry = tuple(self.text.show(each) for each in facts.entry) if facts else ()
        return Inspection(
            named,
            gating.judge(self._machine, evidence),
            found,
            facts,
            entry,
            callers,
            held,
            standing,
            tuple(missing),
        )

    def _prototypes(self, named: Named, missing: list[Missing]) -> tuple[Prototype, ...]:
        """Give what a function's prototypes may be: one, if the kernel's types know it."""
        if not named.same or not any(each.is_text for each in named.same):
            return ()
        try:
            btf = self._btf(named.same[0].module)
            made = [prototype(btf, named.name, each) for each in btf.functions(named.name)]
        except DynamosError as error:
            missing.append(because("prototype", error))
            return ()
        return tuple(dict.fromkeys(made))

    def _look(
        self, symbol: Symbol | None, most: int, missing: list[Missing]
    ) -> tuple[Facts | None, Callers | None]:
        """Look at a function's text, and at what leads to it."""
        if symbol is None or not symbol.is_text:
            return None, None
        facts = None
        try:
            facts = body.look(self.text.body(symbol), self.symbols)
            callers = self._finder.find(symbol, most)
        except DynamosError as error:
            missing.append(because("callers" if facts else "entry, callers, loops", error))
            return facts, None
        what = "pointers to it in the kernel's data"
        missing += [Missing(what, each, _DATA_HINT) for each in callers.blind]
        return facts, callers
