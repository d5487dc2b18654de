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

from dynamosd.errors import DynamosError, InvalidInput, Refused, Unreachable
from dynamosd.kmod import CommandFailed, Event, Kmod, parse_event, parse_events
from dynamosd.model import Counts, EditionState

if TYPE_CHECKING:
    from dynamosd.testing import FakeModule


class RefusingDevice:
    """Answers every command with one errno."""

    def __init__(self, number: int, reason: str = "") -> None:
        """Take the errno and the sentence."""
        self._failure = CommandFailed(number, reason)

    def command(self, line: str) -> None:
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
        ("readahead", "x" * 300, "does not understand", "version"),
    ],
)
def test_wrong_names(
    module: FakeModule, subsystem: str, edition: str, message: str, hint: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        module.kmod.switch(subsystem, edition)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 1


def test_mode_that_is_not_supported(module: FakeModule) -> None:
    with pytest.raises(Refused, match="mode exclusive is not supported"):
        module.kmod.switch("readahead", "random", "exclusive")


@pytest.mark.parametrize(
    ("number", "error", "exit_code"),
    [
        (errno.ENOENT, InvalidInput, 1),
        (errno.ENXIO, InvalidInput, 1),
        (errno.EINVAL, InvalidInput, 1),
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


def test_events(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random")
    with pytest.raises(InvalidInput):
        module.kmod.switch("readahead", "none")
    switched, refused = list(module.kmod.events())
    assert switched.name == "switched"
    assert switched.fields["to"] == "random"
    assert refused.fields["command"] == "switch readahead none mode=concurrent"
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
