# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.kmod: reading, commands, events, and everything that can be wrong with them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.errors import (
    DynamosError,
    InvalidInput,
    LeaseTaken,
    NotUnderstood,
    Refused,
    Unreachable,
)
from dynamosd.kmod import CommandFailed, Event, Inside, Kmod, parse_event, parse_events
from dynamosd.model import HELD, LOST, Counts, EditionState, LeaseTerms, Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.testing import FakeModule


class RefusingDevice:
    """Answers every command with one errno."""

    def __init__(self, number: int, reason: str = "", said: str = "") -> None:
        """Take the errno, the sentence and the events."""
        self._failure = CommandFailed(number, reason, list(parse_events(said)))

    def command(self, line: str) -> list[Event]:
        """Refuse."""
        del line
        raise self._failure


def test_reads_everything(module: FakeModule) -> None:
    module.call("readahead", "page_cache_ra_order", 3, blocked=2)
    kernel = module.kmod.read()
    assert kernel.version == "0.1.0"
    subsystem = kernel.subsystems["readahead"]
    assert (subsystem.active, subsystem.mode, subsystem.switches) == ("original", "concurrent", 0)
    assert [each.name for each in subsystem.editions.values()] == ["original", "random"]
    assert subsystem.editions["original"].state is EditionState.ACTIVE
    assert (subsystem.partial, subsystem.scope) == (None, None)
    order = subsystem.functions["page_cache_ra_order"]
    assert order.counts == {"original": Counts(5, 2), "random": Counts(0, 0)}
    assert set(subsystem.functions["page_cache_ra_unbounded"].counts) == {"original"}


def test_module_not_loaded(tmp_path: Path) -> None:
    kmod = Kmod(tmp_path / "none", tmp_path / "dev")
    assert not kmod.loaded
    with pytest.raises(Unreachable, match="not loaded") as caught:
        kmod.read()
    assert "modprobe dynamos" in caught.value.hint
    with pytest.raises(Unreachable, match="not loaded"):
        kmod.switch("readahead", "random")
    with pytest.raises(Unreachable, match="not loaded"):
        list(kmod.events())


@pytest.mark.parametrize(
    "gone",
    ["editions/random", "functions/page_cache_ra_order/random", "functions/page_cache_ra_order"],
)
def test_folder_that_vanishes_between_listing_and_reading(
    module: FakeModule, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    folder = module.sysfs / "readahead" / gone
    read_text = Path.read_text

    def read_and_vanish(path: Path, encoding: str | None = None) -> str:
        if path.is_relative_to(folder) and folder.exists():
            shutil.rmtree(folder)
        return read_text(path, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", read_and_vanish)
    subsystem = module.kmod.read().subsystems["readahead"]
    assert subsystem.active == "original"
    assert "original" in subsystem.editions
    assert not folder.exists()


def test_file_of_a_removed_folder_fails_with_enodev(
    module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_text = Path.read_text

    def removed(path: Path, encoding: str | None = None) -> str:
        if "random" in path.parts:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return read_text(path, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", removed)
    assert list(module.kmod.read().subsystems["readahead"].editions) == ["original"]


def test_no_permission_to_read(module: FakeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, encoding: str | None = None) -> str:
        del encoding
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(Unreachable, match="may not read") as caught:
        module.kmod.read()
    assert "root" in caught.value.hint


def test_a_value_that_is_none_of_ours(module: FakeModule) -> None:
    (module.sysfs / "readahead" / "switches").write_text("many\n")
    with pytest.raises(Unreachable, match="cannot be read"):
        module.kmod.read()


def test_switch(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random")
    assert module.kmod.read_active("readahead") == "random"
    module.kmod.switch("readahead", "random")
    assert module.kmod.read().subsystems["readahead"].switches == 1


def test_active_of_names_that_are_none(module: FakeModule) -> None:
    assert module.kmod.read_active("nothing") is None
    assert module.kmod.read_active("../sysfs/readahead") is None


@pytest.mark.parametrize(
    ("subsystem", "edition", "message", "hint"),
    [
        ("readahed", "random", "no subsystem readahed", "did you mean readahead"),
        ("readahead", "randm", "no edition randm", "did you mean random"),
        ("readahead", "zzz", "no edition zzz", "editions here: original, random"),
        ("read ahead", "random", "not a name", "list"),
        ("readahead", "ran\ndom", "not a name", "list"),
        ("", "random", "not a name", "list"),
        ("readahead", "x" * 300, "too long", "255 bytes"),
    ],
)
def test_wrong_names(
    module: FakeModule, subsystem: str, edition: str, message: str, hint: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        module.kmod.switch(subsystem, edition)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ("concurrent scoped", "from original to random one can switch with: concurrent, scoped"),
        ("of-tomorrow", "original allows concurrent, exclusive, per-object, scoped; random allows"),
        ("", "dynamosctl edition list"),
        (None, "dynamosctl edition list"),
    ],
)
def test_mode_that_is_not_allowed(module: FakeModule, there: str | None, hint: str) -> None:
    file = module.sysfs / "readahead/editions/random/modes"
    file.write_text(f"{there}\n")
    with pytest.raises(Refused, match="mode exclusive is not allowed"):
        module.kmod.switch("readahead", "random", "exclusive")
    if there is None:
        file.unlink()
    kmod = Kmod(module.sysfs, module.device, RefusingDevice(errno.EOPNOTSUPP))
    with pytest.raises(Refused) as caught:
        kmod.switch("readahead", "random", "exclusive")
    assert hint in caught.value.hint
    assert "always works" not in caught.value.hint


@pytest.mark.parametrize(
    ("number", "error", "exit_code"),
    [
        (errno.ESRCH, InvalidInput, 1),
        (errno.ERANGE, InvalidInput, 1),
        (errno.ETIMEDOUT, Refused, 6),
        (errno.ECANCELED, Refused, 6),
        (errno.EINTR, DynamosError, 1),
        (errno.EBUSY, LeaseTaken, 6),
        (errno.ENOTRECOVERABLE, Refused, 6),
        (errno.ENOENT, InvalidInput, 1),
        (errno.ENXIO, InvalidInput, 1),
        (errno.EINVAL, NotUnderstood, 1),
        (errno.E2BIG, InvalidInput, 1),
        (errno.ENODEV, Refused, 6),
        (errno.EOPNOTSUPP, Refused, 6),
        (errno.EPERM, Unreachable, 5),
        (errno.EACCES, Unreachable, 5),
        (errno.ENOMEM, DynamosError, 1),
    ],
)
def test_every_errno_is_an_error_with_a_sentence_and_a_hint(
    module: FakeModule, number: int, error: type[DynamosError], exit_code: int
) -> None:
    for reason in ("", "the module's own sentence"):
        kmod = Kmod(module.sysfs, module.device, RefusingDevice(number, reason))
        with pytest.raises(error) as caught:
            kmod.switch("readahead", "random")
        assert caught.value.exit_code == exit_code
        assert caught.value.message == (reason or caught.value.message)
        assert caught.value.message
        assert caught.value.hint


def test_device_that_may_not_be_opened(module: FakeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(Unreachable, match="may not open") as caught:
        Kmod(module.sysfs, module.device).switch("readahead", "random")
    assert "root" in caught.value.hint


def test_reason_is_picked_out_of_the_events(
    module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file takes writes as the device does; what is read back are events, ours between others'.
    refusal = 'seq=8 time=1.5 event=refused by={} errno=95 command="{}" reason="{}"\n'
    text = (
        refusal.format(1, "switch a b", "not ours")
        + refusal.format(os.getpid(), "switch readahead random mode=scoped", "no cgroup given")
        + "seq=9 time=1.6 event=switched subsystem=x from=a to=b mode=concurrent by=1\n"
    )
    blocks = [text.encode()]

    def write(_device: int, _data: bytes) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def read(_device: int, _size: int) -> bytes:
        if not blocks:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return blocks.pop()

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "read", read)
    with pytest.raises(Refused) as caught:
        Kmod(module.sysfs, module.device).switch("readahead", "random", "scoped")
    assert caught.value.message == "no cgroup given"


# -------------------------------------------------------------------------------- what is partial


def test_reads_what_is_partial(module: FakeModule) -> None:
    folder = module.sysfs / "readahead"
    for name, value in {"held": 3, "objects": 2**80, "before_gate": 2, "unreliable": 1}.items():
        (folder / name).write_text(f"{value}\n")
    module.kmod.switch("readahead", "random", "scoped", scope="cpus:0-3")
    subsystem = module.kmod.read().subsystems["readahead"]
    assert (subsystem.active, subsystem.partial) == ("original", "random")
    assert (subsystem.mode, subsystem.scope) == ("scoped", "cpus:0-3")
    assert (subsystem.held, subsystem.objects) == (3, 2**80)
    assert (subsystem.before_gate, subsystem.unreliable) == (2, 1)
    assert subsystem.editions["random"].state is EditionState.PARTIAL
    standing = module.kmod.read_standing("readahead")
    assert standing == Standing("original", "random", "scoped", "cpus:0-3")
    assert module.kmod.read_standing("../sysfs/readahead") is None
    assert module.kmod.read_standing("none") is None


def test_mode_of_a_newer_module(module: FakeModule) -> None:
    folder = module.sysfs / "readahead"
    (folder / "mode").write_text("per-moon-phase\n")
    (folder / "editions/random/modes").write_text("concurrent per-moon-phase\n")
    subsystem = module.kmod.read().subsystems["readahead"]
    assert subsystem.mode == "per-moon-phase"
    assert subsystem.editions["random"].modes == ("concurrent", "per-moon-phase")


NEW_FILES = ("partial", "scope", "held", "objects", "before_gate", "unreliable", "lease")
NEWER_FILES = ("lease_holder", "editions/random/quarantine", "editions/random/died")


@pytest.mark.parametrize("name", [*NEW_FILES, *NEWER_FILES, "editions/random/modes"])
def test_file_that_an_older_module_does_not_have(module: FakeModule, name: str) -> None:
    (module.sysfs / "readahead" / name).unlink()
    subsystem = module.kmod.read().subsystems["readahead"]
    assert (subsystem.partial, subsystem.scope, subsystem.held) == (None, None, 0)
    assert (subsystem.objects, subsystem.before_gate, subsystem.unreliable) == (0, 0, 0)
    assert (subsystem.lease, subsystem.lease_holder) == (None, 0)
    random = subsystem.editions["random"]
    assert (random.quarantine, random.died) == (None, 0)
    assert set(subsystem.editions) == {"original", "random"}


@pytest.mark.parametrize("text", ["many", "", "1 2", "9" * 5000])
def test_count_that_is_none(module: FakeModule, text: str) -> None:
    (module.sysfs / "readahead/held").write_text(text + "\n")
    with pytest.raises(Unreachable, match="cannot be read"):
        module.kmod.read()


def test_parameters(module: FakeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"window": 64, "secret": 1, "gone": 2, "odd": "\x1b[2J\u00e9\nx"}.items():
        module.give_parameter("readahead", "random", name, value)
    read_bytes = Path.read_bytes

    def unreadable(path: Path) -> bytes:
        if path.name in {"secret", "gone"}:
            number = errno.EACCES if path.name == "secret" else errno.ENODEV
            raise OSError(number, os.strerror(number))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    editions = module.kmod.read().subsystems["readahead"].editions
    assert editions["random"].parameters == {"window": "64", "odd": "?[2J??\nx"}
    assert editions["original"].parameters == {}


# ------------------------------------------------------------------------------------- options


class NotingDevice:
    """Notes the commands, and gives some events."""

    def __init__(self, said: str = "") -> None:
        """Take the events."""
        self.lines: list[str] = []
        self._said = said

    def command(self, line: str) -> list[Event]:
        """Note it."""
        self.lines.append(line)
        return list(parse_events(self._said))


def test_options_of_a_switch(module: FakeModule) -> None:
    device = NotingDevice()
    kmod = Kmod(module.sysfs, module.device, device)
    kmod.switch("a", "b")
    kmod.switch("a", "b", "exclusive", timeout=0.5)
    kmod.switch("a", "b", mode="scoped", scope="cpus:0,2-3")
    kmod.switch("a", "b", "per-object", objects="keep")
    kmod.switch("a", "b", "exclusive", timeout=60)
    kmod.switch("a", "b", "exclusive", timeout=0.0014)
    assert device.lines == [
        "switch a b",
        "switch a b mode=exclusive timeout_ms=500",
        "switch a b mode=scoped scope=cpus:0,2-3",
        "switch a b mode=per-object objects=keep",
        "switch a b mode=exclusive timeout_ms=60000",
        "switch a b mode=exclusive timeout_ms=1",
    ]


@pytest.mark.parametrize("timeout", [0.0, -1.0, 60.1, 1e300, float("inf"), float("nan")])
def test_timeout_that_is_not_possible(module: FakeModule, timeout: float) -> None:
    with pytest.raises(InvalidInput, match="is not possible"):
        module.kmod.switch("readahead", "random", "exclusive", timeout=timeout)


@pytest.mark.parametrize(
    "scope", ["", "cgroup:/a b", "cpus:0\nwho readahead", 'cgroup:/"', "cgroup:/\u00e9"]
)
def test_scope_that_would_be_more_than_a_word(module: FakeModule, scope: str) -> None:
    with pytest.raises(InvalidInput, match="is not a name"):
        module.kmod.switch("readahead", "random", "scoped", scope=scope)


def test_scope_that_is_not_there(module: FakeModule) -> None:
    with pytest.raises(InvalidInput, match="no task 99999") as caught:
        module.kmod.switch("readahead", "random", "scoped", scope="task:99999")
    assert "must exist" in caught.value.hint
    with pytest.raises(InvalidInput, match="unknown scope") as caught:
        module.kmod.switch("readahead", "random", "scoped", scope="moon:full")
    assert "cpus:LIST" in caught.value.hint


# -------------------------------------------------------------------- quarantine, switched off


def test_edition_in_quarantine_is_not_switched_to(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random")
    module.trip("readahead", "random")
    subsystem = module.kmod.read().subsystems["readahead"]
    assert subsystem.active == "original"
    assert (subsystem.editions["random"].quarantine, subsystem.editions["random"].died) == (
        "oops",
        1,
    )
    with pytest.raises(Refused, match=r"edition random is in quarantine \(oops\)") as caught:
        module.kmod.switch("readahead", "random")
    assert caught.value.exit_code == 6
    assert "dynamosctl edition clear readahead random" in caught.value.hint
    module.kmod.clear("readahead", "random")
    module.kmod.switch("readahead", "random")
    names = [each.name for each in module.kmod.events() if each.name != "drained"]
    assert names[1:4] == ["tripped", "switched", "quarantined"]


def test_quarantine_by_command_takes_the_calls_away_first(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random", "scoped", scope="handler")
    module.kmod.quarantine("readahead", "random")
    subsystem = module.kmod.read().subsystems["readahead"]
    assert (subsystem.partial, subsystem.editions["random"].quarantine) == (None, "command")
    module.unload("readahead", "random")
    module.load("readahead", "random")
    assert module.kmod.read_quarantine("readahead", "random") is None


@pytest.mark.parametrize("command", [Kmod.quarantine, Kmod.clear])
def test_quarantine_of_wrong_names(
    module: FakeModule, command: Callable[[Kmod, str, str], None]
) -> None:
    for subsystem, edition, message in (
        ("readahed", "random", "no subsystem readahed"),
        ("readahead", "randm", "no edition randm"),
        ("read ahead", "random", "not a name"),
        ("readahead", "ran\nclear", "not a name"),
    ):
        with pytest.raises(InvalidInput, match=message):
            command(module.kmod, subsystem, edition)


def test_switch_that_was_given_up_says_why_as_far_as_one_can_see(module: FakeModule) -> None:
    kmod = Kmod(module.sysfs, module.device, RefusingDevice(errno.ECANCELED))
    with pytest.raises(Refused, match="itself said no, or a switch to original came") as caught:
        kmod.switch("readahead", "random")
    assert "author" in caught.value.hint
    module.kmod.quarantine("readahead", "random")
    with pytest.raises(Refused, match="is in quarantine") as caught:
        kmod.switch("readahead", "random")
    assert "edition clear readahead random" in caught.value.hint


def test_module_that_is_switched_off(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random")
    assert module.kmod.read().enabled
    module.enable(0)
    kernel = module.kmod.read()
    assert (kernel.enabled, kernel.tripwire) == (False, "oops")
    assert kernel.subsystems["readahead"].active == "original"
    module.kmod.switch("readahead", "original")
    with pytest.raises(Refused, match="switched off") as caught:
        module.kmod.switch("readahead", "random")
    assert caught.value.exit_code == 6
    assert "echo 1 > /sys/module/dynamos/parameters/enable" in caught.value.hint
    module.enable(1)
    module.kmod.switch("readahead", "random")


@pytest.mark.parametrize(
    ("text", "enabled"),
    [("1", True), ("0", False), ("Y", True), ("N", False), ("", True), (None, True)],
)
def test_ways_to_show_that_it_is_switched_off(
    module: FakeModule, text: str | None, *, enabled: bool
) -> None:
    file = module.settings / "enable"
    file.unlink()
    if text is not None:
        file.write_text(f"{text}\n")
    assert module.kmod.read().enabled is enabled


def test_not_root_is_not_taken_for_switched_off(module: FakeModule) -> None:
    device = RefusingDevice(errno.EPERM)
    kmod = Kmod(module.sysfs, module.device, device, settings=module.settings)
    with pytest.raises(Unreachable, match="only root"):
        kmod.switch("readahead", "random")
    module.enable(0)
    with pytest.raises(Refused, match="switched off"):
        kmod.switch("readahead", "random")
    with pytest.raises(Refused, match="may not be written"):
        kmod.set_parameter("readahead", "random", "fixed", "1")


# ---------------------------------------------------------------------------------------- leases

TERMS = LeaseTerms("baseline", "original", 30.0, 10.0)


def lease_of(module: FakeModule) -> tuple[str | None, int]:
    """Give the state and the holder of the lease that the module shows."""
    subsystem = module.kmod.read().subsystems["readahead"]
    return subsystem.lease, subsystem.lease_holder


def test_lease_is_the_open_files(module: FakeModule) -> None:
    device = module.kmod.open()
    (event,) = module.kmod.lease(device, "readahead", TERMS)
    assert (event.name, event.fields["adopted"]) == ("leased", "0")
    assert (event.fields["grace_ms"], event.fields["ttl_ms"]) == ("30000", "10000")
    assert lease_of(module) == (HELD, os.getpid())
    assert module.kmod.lease(device, "readahead", TERMS) == []
    device.close()
    device.close()
    assert lease_of(module) == (LOST, os.getpid())
    other = module.kmod.open()
    (event,) = module.kmod.lease(other, "readahead", TERMS)
    assert event.fields["adopted"] == "1"
    module.kmod.release(other, "readahead")
    assert lease_of(module) == (None, 0)


def test_lease_that_somebody_else_holds(module: FakeModule) -> None:
    first, second = module.kmod.open(), module.kmod.open()
    module.kmod.lease(first, "readahead", TERMS)
    for attempt in (
        lambda: module.kmod.lease(second, "readahead", TERMS),
        lambda: module.kmod.release(second, "readahead"),
    ):
        with pytest.raises(LeaseTaken, match=f"held by pid {os.getpid()}$") as caught:
            attempt()
        assert caught.value.exit_code == 6
        assert caught.value.hint


@pytest.mark.parametrize(
    ("holder", "reason", "message"),
    [
        ("812", "", "somebody else holds the lease of readahead: pid 812"),
        ("812", "pid 812 has it", "pid 812 has it"),
        ("812", "8123 have it", "8123 have it: pid 812"),
        ("0", "", "somebody else holds the lease of readahead"),
        ("many", "", "somebody else holds the lease of readahead"),
        (None, "", "somebody else holds the lease of readahead"),
    ],
)
def test_holder_is_named_once(
    module: FakeModule, holder: str | None, reason: str, message: str
) -> None:
    file = module.sysfs / "readahead/lease_holder"
    file.unlink()
    if holder is not None:
        file.write_text(f"{holder}\n")
    kmod = Kmod(module.sysfs, module.device, RefusingDevice(errno.EBUSY, reason))
    with pytest.raises(LeaseTaken) as caught:
        kmod.switch("readahead", "random")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("subsystem", "baseline", "message"),
    [
        ("readahed", "original", "no subsystem readahed"),
        ("readahead", "randm", "no edition randm"),
        ("readahead", "a b", "not a name"),
    ],
)
def test_lease_with_wrong_names(
    module: FakeModule, subsystem: str, baseline: str, message: str
) -> None:
    device = module.kmod.open()
    with pytest.raises(InvalidInput, match=message):
        module.kmod.lease(device, subsystem, LeaseTerms("hold", baseline, 0.0, 1.0))
    assert lease_of(module) == (None, 0)


@pytest.mark.parametrize("seconds", [0.05, 3601.0])
def test_lease_with_a_ttl_that_is_not_possible(module: FakeModule, seconds: float) -> None:
    device, terms = module.kmod.open(), LeaseTerms("hold", "original", 0.0, seconds)
    with pytest.raises(NotUnderstood, match="ttl_ms is"):
        module.kmod.lease(device, "readahead", terms)


def test_lease_by_a_shell_is_lost_at_once(module: FakeModule) -> None:
    module.command("lease readahead grace_ms=0")
    assert lease_of(module)[0] == LOST
    module.kmod.switch("readahead", "random")
    module.expire("readahead")
    assert lease_of(module) == (None, 0)
    assert module.kmod.read_active("readahead") == "original"
    assert [each.name for each in module.kmod.events()] == [
        *("leased", "lease_lost", "switched", "drained", "lease_expired", "switched", "drained")
    ]
    with pytest.raises(ValueError, match="not lost"):
        module.expire("readahead")


def test_open_device_without_the_module(module: FakeModule, tmp_path: Path) -> None:
    device = module.kmod.open()
    module.remove()
    with pytest.raises(Unreachable, match="not loaded"):
        module.kmod.lease(device, "readahead", TERMS)
    device.close()
    with pytest.raises(Unreachable, match="not loaded"):
        module.kmod.open()
    with pytest.raises(Unreachable, match="not loaded"):
        Kmod(tmp_path, tmp_path / "none").open()


def test_open_device_is_one_file_that_nobody_inherits(
    module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    lines: list[tuple[int, bytes]] = []
    real = os.open

    def note(path: Path, flags: int) -> int:
        assert flags & os.O_CLOEXEC
        opened.append(real(path, flags))
        return opened[-1]

    def write(file: int, data: bytes) -> int:
        lines.append((file, data))
        return len(data)

    monkeypatch.setattr(os, "open", note)
    monkeypatch.setattr(os, "write", write)
    kmod = Kmod(module.sysfs, module.device)
    device = kmod.open()
    kmod.lease(device, "readahead", TERMS)
    kmod.release(device, "readahead")
    (file,) = opened
    assert not os.get_inheritable(file)
    line = "lease readahead action=baseline baseline=original grace_ms=30000 ttl_ms=10000"
    assert lines == [(file, line.encode()), (file, b"release readahead")]
    device.close()
    device.close()
    with pytest.raises(Unreachable):
        kmod.lease(device, "readahead", TERMS)


# ---------------------------------------------------------------------------------- set and who


@pytest.fixture
def tuned(module: FakeModule) -> FakeModule:
    """Give a module whose edition has parameters."""
    module.give_parameter("readahead", "random", "window", 64)
    module.give_parameter("readahead", "random", "fixed", 1)
    (module.sysfs / "readahead/editions/random/parameters/fixed").chmod(0o444)
    return module


def test_set_parameter(tuned: FakeModule) -> None:
    tuned.kmod.set_parameter("readahead", "random", "window", "128")
    assert tuned.kmod.read_parameter("readahead", "random", "window") == "128"
    assert tuned.kmod.read_parameter("readahead", "random", "none") is None
    (event,) = tuned.kmod.events()
    assert (event.name, event.fields["value"]) == ("parameter", "128")


@pytest.mark.parametrize(
    ("words", "error", "message", "hint"),
    [
        (("readahed", "random", "window", "1"), InvalidInput, "no subsystem", "readahead?"),
        (("readahead", "randm", "window", "1"), InvalidInput, "no edition", "random?"),
        (("readahead", "random", "windw", "1"), InvalidInput, "no parameter", "window?"),
        (("readahead", "original", "window", "1"), InvalidInput, "no parameter", "modinfo"),
        (("readahead", "random", "window", "much"), InvalidInput, "a number", "64 now"),
        (("readahead", "random", "window", ""), InvalidInput, "a number", "64 now"),
        (("readahead", "random", "window", "1 2"), InvalidInput, "not a name", ""),
        (("readahead", "random", "window", "1\n"), InvalidInput, "not a name", ""),
        (("readahead", "random", "a=b", "1"), InvalidInput, "not a name", ""),
        (("readahead", "random", "", "1"), InvalidInput, "not a name", ""),
        (("readahead", "random", "window", "9" * 300), InvalidInput, "too long", "255"),
        (("readahead", "random", "fixed", "1"), Refused, "may not be written", "modprobe"),
    ],
)
def test_set_that_fails(
    tuned: FakeModule,
    words: tuple[str, str, str, str],
    error: type[Exception],
    message: str,
    hint: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        tuned.kmod.set_parameter(*words)
    assert isinstance(caught.value, DynamosError)
    assert hint in caught.value.hint
    assert tuned.kmod.read_parameter("readahead", "random", "window") == "64"


def test_who(module: FakeModule) -> None:
    assert module.kmod.who("readahead") == ([], 0)
    module.call("readahead", "page_cache_ra_order", blocked=1)
    (module.sysfs / "readahead/before_gate").write_text("1\n")
    (module.sysfs / "readahead/unreliable").write_text("1\n")
    gated, before, unreliable = module.kmod.who("readahead").inside
    assert gated == Inside(
        "page_cache_ra_order", "original", 1001, "a reader", "io_schedule", "gated"
    )
    assert (before.edition, before.how) == ("original", "before-gate")
    assert (unreliable.function, unreliable.how) == ("?", "unreliable")
    assert str(unreliable) == "a reader[1003] (its stack cannot be read)"
    with pytest.raises(InvalidInput, match="no subsystem readahed"):
        module.kmod.who("readahed")


def test_who_of_a_crowd(module: FakeModule) -> None:
    module.call("readahead", "page_cache_ra_order", blocked=50)
    inside, more = module.kmod.who("readahead")
    assert (len(inside), more) == (16, 34)


def test_check(module: FakeModule) -> None:
    assert module.kmod.check("vfs_read") is None
    said = {
        "schedule": (errno.EPERM, "schedule is not gated: somebody is always inside it"),
        "memcpy": (errno.EPERM, "__memcpy is not gated: it would call itself"),
        "nosuch": (errno.ENOENT, "nosuch: there is no such function in this kernel"),
        "some:value": (errno.EINVAL, "value: its entry cannot be traced (-22)"),
        "vfs_write": (errno.EILSEQ, "vfs_write: no function, or one that may not be probed (-84)"),
        "vfs_open": (errno.ENODEV, "vfs_open: its entry cannot be traced (-19)"),
        "vfs_sync": (errno.EBUSY, "vfs_sync: no function, or one that may not be probed (-16)"),
    }
    module.denied |= said
    for name, (number, reason) in said.items():
        unfit = module.kmod.check(name)
        assert unfit == (number, reason)
        assert unfit.is_denied is (number == errno.EPERM)


@pytest.mark.parametrize(
    ("number", "reason", "error"),
    [
        (errno.EINVAL, "unknown command check", NotUnderstood),
        (errno.EINVAL, "", NotUnderstood),
        (errno.EPERM, "", Unreachable),
        (errno.ENOMEM, "", DynamosError),
        (errno.ENOMEM, "vfs_read: its entry cannot be traced (-12)", DynamosError),
    ],
)
def test_check_that_is_not_answered(
    module: FakeModule, number: int, reason: str, error: type[DynamosError]
) -> None:
    module.denied["vfs_read"] = (number, reason)
    with pytest.raises(error):
        module.kmod.check("vfs_read")


def test_check_of_a_function_that_an_older_module_has_in_its_sentence(module: FakeModule) -> None:
    module.denied["check"] = (errno.EINVAL, "unknown command check")
    with pytest.raises(NotUnderstood):
        module.kmod.check("check")


def test_what_the_module_shows_of_gates(module: FakeModule) -> None:
    assert (module.kmod.backend, module.kmod.read_address("readahead", "page_cache_ra_order")) == (
        "",
        None,
    )
    (module.settings / "backend").write_text("direct\n")
    address = module.sysfs / "readahead/functions/page_cache_ra_order/address"
    for text, found in (
        ("0xffffffff81000004\n", 0xFFFFFFFF81000004),
        ("0\n", 0),
        ("(nil)\n", None),
    ):
        address.write_text(text)
        assert module.kmod.read_address("readahead", "page_cache_ra_order") == found
    assert module.kmod.backend == "direct"


def test_check_of_what_is_no_name(module: FakeModule) -> None:
    with pytest.raises(InvalidInput, match="is not a name"):
        module.kmod.check("two words")
    module.remove()
    with pytest.raises(Unreachable, match="not loaded"):
        module.kmod.check("vfs_read")


GOOD = 'seq=1 time=1 event=inside subsystem=s function=f edition=e pid=7 comm="a b" at=x how=gated'


@pytest.mark.parametrize(
    ("lines", "found", "more"),
    [
        (GOOD, 1, 0),
        (f"{GOOD}\n{GOOD}", 1, 0),
        (f"{GOOD} count=3", 1, 3),
        (f"{GOOD} count=-3", 1, 0),
        (f"{GOOD} count=many", 1, 0),
        (f"{GOOD} count={'9' * 5000}", 1, 0),
        (f"{GOOD} count={2**70}", 1, 2**70),
        (GOOD.replace("pid=7", f"pid={2**64}"), 1, 0),
        (GOOD.replace("pid=7", f"pid={'9' * 5000}"), 0, 0),
        (GOOD.replace("pid=7", "pid=-7"), 0, 0),
        (GOOD.replace("pid=7", "pid=²"), 0, 0),
        (GOOD.replace("pid=7", "") + " count=2", 0, 2),
        (GOOD.replace("function=f", ""), 0, 0),
        (GOOD.replace("edition=e", ""), 0, 0),
        (GOOD.replace("how=gated", "how=by-magic"), 1, 0),
        (GOOD.replace(' comm="a b" at=x how=gated', ""), 1, 0),
        (GOOD.replace("subsystem=s", "subsystem=t"), 0, 0),
        (GOOD.replace("event=inside", "event=outside"), 0, 0),
        (GOOD[:60], 0, 0),
    ],
)
def test_inside_events_of_all_kinds(tmp_path: Path, lines: str, found: int, more: int) -> None:
    kmod = Kmod(tmp_path, tmp_path / "device", NotingDevice(lines))
    answer = kmod.who("s")
    assert (len(answer.inside), answer.more) == (found, more)


def test_answer_that_others_events_have_pushed_out(tmp_path: Path) -> None:
    lost = f"seq=0 time=0 event=lost count=300\n{GOOD}"
    with pytest.raises(DynamosError, match="lost") as caught:
        Kmod(tmp_path, tmp_path / "device", NotingDevice(lost)).who("s")
    assert caught.value.hint == "try again"


def test_timeout_names_some_and_counts_the_rest(module: FakeModule) -> None:
    module.call("readahead", "page_cache_ra_order", blocked=18)
    with pytest.raises(Refused) as caught:
        module.kmod.switch("readahead", "random", "exclusive", timeout=0.5)
    assert "18 threads were inside for 500 ms; still inside: a reader[1001] in" in str(caught.value)
    assert str(caught.value).endswith(" and 13 more")
    assert "edition who readahead" in caught.value.hint


def test_timeout_names_threads_once(module: FakeModule) -> None:
    said = GOOD.replace("subsystem=s", "subsystem=readahead")
    reason = "still inside after 500 ms: a b"
    kmod = Kmod(module.sysfs, module.device, RefusingDevice(errno.ETIMEDOUT, reason, said))
    with pytest.raises(Refused) as caught:
        kmod.switch("readahead", "random", "exclusive")
    assert caught.value.message == "the timeout is over; still inside: a b[7] in f"


def test_hint_when_the_mode_is_allowed_but_not_now(module: FakeModule) -> None:
    reason = "objects of readahead are being moved: mode=exclusive can end it or undo it"
    kmod = Kmod(module.sysfs, module.device, RefusingDevice(errno.EOPNOTSUPP, reason))
    with pytest.raises(Refused, match="being moved") as caught:
        kmod.switch("readahead", "random", "per-object")
    assert caught.value.hint == "how readahead stands now: dynamosctl status"


def test_hint_reckons_with_the_partial_edition(module: FakeModule) -> None:
    module.load("readahead", "streaming", modes=["concurrent", "scoped"])
    module.kmod.switch("readahead", "streaming", "scoped", scope="handler")
    kmod = Kmod(module.sysfs, module.device, RefusingDevice(errno.EOPNOTSUPP))
    with pytest.raises(Refused) as caught:
        kmod.switch("readahead", "random", "exclusive")
    assert caught.value.hint.endswith("one can switch with: concurrent, scoped")


def test_timeout_without_the_events_that_say_who(module: FakeModule) -> None:
    for said in ("", GOOD):
        kmod = Kmod(module.sysfs, module.device, RefusingDevice(errno.ETIMEDOUT, "", said))
        with pytest.raises(Refused) as caught:
            kmod.switch("readahead", "random", "exclusive")
        assert caught.value.message == "somebody was inside until the deadline"


def test_thread_whose_name_tries_to_be_an_event_or_to_paint(
    module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = GOOD.replace("subsystem=s", "subsystem=readahead")
    bad = bad.replace("a b", "\x1b[2J\x1c\x0b\x85\u00e9")
    blocks = [bad.encode("latin-1") + b"\n"]

    def read(_device: int, _size: int) -> bytes:
        if not blocks:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return blocks.pop()

    monkeypatch.setattr(os, "write", lambda _device, data: len(data))
    monkeypatch.setattr(os, "read", read)
    (thread,) = Kmod(module.sysfs, module.device).who("readahead").inside
    assert thread.comm == "?[2J????"


def test_events_without_end_do_not_keep_a_command_busy(
    module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda _device, data: len(data))
    monkeypatch.setattr(os, "read", lambda _device, _size: GOOD.encode() + b"\n")
    assert Kmod(module.sysfs, module.device).who("s").inside[0].pid == 7


def test_events(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random")
    with pytest.raises(InvalidInput):
        module.kmod.switch("readahead", "none")
    switched, _drained, refused = list(module.kmod.events())
    assert switched.name == "switched"
    assert switched.fields["to"] == "random"
    assert refused.fields["command"] == "switch readahead none"
    assert refused.fields["reason"] == "subsystem readahead has no edition none"


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            "seq=17 time=1234.567890123 event=switched subsystem=readahead from=a to=b by=812",
            Event(
                17,
                1234.567890123,
                "switched",
                {"subsystem": "readahead", "from": "a", "to": "b", "by": "812"},
            ),
        ),
        ("seq=0 time=0 event=lost count=44", Event(0, 0.0, "lost", {"count": "44"})),
        (
            'seq=1 time=2.0 event=refused command="switch a b=c" reason=""',
            Event(1, 2.0, "refused", {"command": "switch a b=c", "reason": ""}),
        ),
        (
            'seq=1 time=2.0 event=refused reason="cut off in mid',
            Event(1, 2.0, "refused", {"reason": "cut off in mid"}),
        ),
        ("seq=x time=2.0 event=refused", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_event_lines(line: str, event: Event | None) -> None:
    assert parse_event(line) == event


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    assert list(parse_events(text)) is not None


_words = st.text("abc_-.09", min_size=1)
_sentences = st.text("abc =.", min_size=1)


@given(st.integers(1), st.dictionaries(_words, _sentences))
def test_quoted_values_come_back(seq: int, fields: dict[str, str]) -> None:
    line = f"seq={seq} time=1.0 event=refused " + " ".join(
        f'{key}="{value}"' for key, value in fields.items()
    )
    event = parse_event(line)
    assert event is not None
    assert event.fields == fields
