# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.recording: what is written can be read again, whatever happened to the writer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.errors import InvalidInput
from dynamosd.model import RuleState, Signal
from dynamosd.policy.definition import Policy
from dynamosd.policy.evaluate import Asked, PolicyState, Progress, Situation, evaluate
from dynamosd.policy.expression import Input
from dynamosd.policy.load import parse_policy
from dynamosd.policy.readings import Average
from dynamosd.recording import (
    RETRY_SECONDS,
    Evaluated,
    Recorder,
    decision_to_json,
    files,
    read,
    read_lines,
    state_from_json,
    state_to_json,
)
from tests.unit.policy.build import KNOWN, policy_of, signals_of, text_of


class Writer:
    """Evaluates a policy once a second, and records it."""

    def __init__(
        self, folder: Path, policy: Policy | None = None, *, max_bytes: int = 10**6, keep: int = 9
    ) -> None:
        self.said: list[str] = []
        self.policy = policy or policy_of()
        self.state = PolicyState()
        self.second = 0
        self.made: list[dict[str, object]] = []
        self.recorder = Recorder(folder, self.said.append, {"program": "test"}, max_bytes, keep)

    def write(self, readings: list[float | None]) -> None:
        for reading in readings:
            now = float(self.second)
            signals = signals_of(now, calls_rate=reading, in_flight=Signal(1.0, trusted=False))
            situation = Situation("original", now, 1000.0 + now, {"quiet": "x"}, "")
            before = self.state
            decision, self.state = evaluate(self.policy, signals, before, situation)
            evaluated = Evaluated(self.policy, situation, before, decision, self.state)
            self.recorder.record(now, 1000.0 + now, signals, [evaluated])
            self.made.append(decision_to_json(decision))
            self.second += 1


FLOATS = st.floats(allow_nan=False)
STATES = st.builds(
    PolicyState,
    rules=st.dictionaries(
        st.text(max_size=5),
        st.builds(Progress, st.sampled_from(RuleState), FLOATS, st.integers(0, 2**64 - 1)),
        max_size=3,
    ),
    averages=st.dictionaries(
        st.builds(Input, *[st.text(max_size=5)] * 3, FLOATS),
        st.builds(Average, FLOATS, FLOATS),
        max_size=3,
    ),
    switches=st.lists(FLOATS, max_size=3).map(tuple),
    asked=st.none() | st.builds(Asked, st.text(max_size=5), FLOATS),
    frozen_until=st.none() | FLOATS,
)


@given(STATES)
def test_state_comes_back_as_it_was(state: PolicyState) -> None:
    assert state_from_json(json.loads(json.dumps(state_to_json(state)))) == state


def test_everything_comes_back(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write([50.0, None, 0.1 + 0.2, 200.0])
    writer.recorder.close()
    ticks = list(read(tmp_path))
    assert [(tick.now, tick.wall) for tick in ticks] == [(n, 1000.0 + n) for n in range(4)]
    assert [tick.signals.values["calls_rate", "pipe_write", ""].value for tick in ticks] == [
        *(50.0, None, 0.1 + 0.2, 200.0)
    ]
    assert ticks[0].signals.values["in_flight", "pipe_write", ""] == Signal(1.0, trusted=False)
    assert [tick.entries["test"].decided for tick in ticks] == writer.made
    first, second, *_ = (tick.entries["test"] for tick in ticks)
    assert (first.state, first.digest) == (PolicyState(), writer.policy.digest)
    assert (second.state, second.quarantined) == (None, {"quiet": "x"})
    header = next(read_lines(files(tmp_path)[0]))
    assert (header["format"], header["version"], header["program"]) == (
        *("dynamos-recording", 2, "test"),
    )


def test_state_that_does_not_follow_is_written_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write([50.0] * 3)
    writer.state = PolicyState()
    writer.write([50.0] * 2)
    states = [tick.entries["test"].state for tick in read(tmp_path)]
    assert [state is not None for state in states] == [True, False, False, True, False]


def test_other_content_of_a_policy_is_told_apart(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write([50.0] * 2)
    # A remark more: it means the same, and its state goes on.
    writer.policy = parse_policy(f"# a remark\n{text_of()}".encode(), "test.yaml", known=KNOWN)
    writer.write([50.0] * 2)
    digests = [tick.entries["test"].digest for tick in read(tmp_path)]
    assert digests == [policy_of().digest, "", writer.policy.digest, ""]


def test_files_are_rolled_by_size_and_the_oldest_go(tmp_path: Path) -> None:
    (tmp_path / "00000041.jsonl.zst").write_bytes(b"")
    writer = Writer(tmp_path, max_bytes=2000, keep=3)
    writer.write([float(number * 7919 % 1000) for number in range(300)])
    names = [path.name for path in files(tmp_path)]
    assert len(names) == 3
    assert names == sorted(names)
    assert int(names[0].partition(".")[0]) > 42
    assert all(path.stat().st_size < 4000 for path in files(tmp_path))
    # Each of them can be read without the ones before it.
    for path in files(tmp_path):
        first = next(read(path))
        assert first.entries["test"].state is not None
    assert [tick.now for tick in read(tmp_path)][-1] == 299.0


def test_nothing_is_recorded_when_nothing_is_kept(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "none", keep=0)
    writer.write([1.0])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("cut", [1, 2, 5, 20])
def test_torn_tail_is_ignored(tmp_path: Path, cut: int) -> None:
    writer = Writer(tmp_path)
    writer.write([50.0, 200.0, 70.0])
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [tick.now for tick in read(path)] == [0.0, 1.0]


def test_noise_after_the_end_costs_the_last_lines_only(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write([float(number * 7919 % 1000) for number in range(300)])
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes() + b"\xff" * 100)
    found = [tick.now for tick in read(path)]
    assert found == [float(number) for number in range(len(found))]
    assert len(found) > 280


HEADER = b'{"format":"dynamos-recording","version":2}\n'
SAMPLE = b'{"now":1,"wall":2,"signals":[],"policies":[]}\n'


@given(data=st.data())
def test_broken_bytes_are_an_end_or_an_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(zstd.compress(HEADER + SAMPLE))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("broken") / "x.jsonl.zst"
    path.write_bytes(bytes(raw))
    with contextlib.suppress(InvalidInput):
        assert len(list(read(path))) <= 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a recording"),
        (b"not compressed", "is not a recording"),
        (zstd.compress(b""), "is not a recording"),
        (zstd.compress(b"[]\n"), "no JSON object"),
        (zstd.compress(b"{}\n"), "is not a recording"),
        (
            zstd.compress(b'{"format":"dynamos-recording","version":3}\n'),
            "is a recording of version 3, not 2",
        ),
        (zstd.compress(HEADER + b'{"now":1}\n'), "line 2 is not a sample"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        list(read(path))
    assert message in caught.value.message


def test_a_recording_from_before_signals_had_editions_is_read(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write([50.0, None])
    writer.recorder.close()
    header, *lines = read_lines(files(tmp_path)[0])
    for line in lines:
        line["signals"] = [[*row[:2], *row[3:]] for row in line["signals"]]
    lines[0]["policies"][0]["state"]["averages"] = [["calls_rate", "f", 10.0, 5.0, 1.0]]
    old = [{**header, "version": 1}, *lines]
    path = tmp_path / "old.jsonl.zst"
    path.write_bytes(zstd.compress("".join(json.dumps(line) + "\n" for line in old).encode()))
    before, after = list(read(path)), list(read(files(tmp_path)[0]))
    assert [tick.signals for tick in before] == [tick.signals for tick in after]
    state = before[0].entries["test"].state
    assert state is not None
    assert state.averages == {Input("calls_rate", "f", "", 10.0): Average(5.0, 1.0)}


def test_folder_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no recording"):
        list(read(tmp_path))
    with pytest.raises(InvalidInput, match="cannot read"):
        list(read(tmp_path / "missing.jsonl.zst"))


def test_empty_file_of_a_killed_daemon_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "00000000.jsonl.zst").write_bytes(b"")
    Writer(tmp_path).write([1.0])
    assert len(list(read(tmp_path))) == 1


def test_full_disk_is_told_once_and_eats_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(tmp_path).write([1.0])
    writer = Writer(tmp_path, keep=1)
    write = os.write

    def full(_number: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    writer.write([1.0] * 5)
    assert len(files(tmp_path)) == 1
    assert (writer.recorder.errors, len(writer.said)) == (1, 1)
    assert "No space left on device" in writer.said[0]
    writer.second += int(RETRY_SECONDS)
    writer.write([1.0] * 5)
    assert (writer.recorder.errors, len(writer.said)) == (2, 1)
    monkeypatch.setattr(os, "write", write)
    writer.second += int(RETRY_SECONDS)
    writer.write([1.0] * 5)
    assert writer.said[1:] == [f"{tmp_path} can be written again"]
    assert len(list(read(tmp_path))) == 5


KILLED = """
import sys
from pathlib import Path
from tests.unit.test_recording import Writer

writer = Writer(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    writer.write([float(writer.second)])
"""


def test_writer_that_is_killed_leaves_what_it_wrote(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        while not files(tmp_path) or files(tmp_path)[0].stat().st_size < 5000:
            assert killed.poll() is None
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    ticks = list(read(tmp_path))
    assert len(ticks) > 10
    assert [tick.now for tick in ticks] == [float(number) for number in range(len(ticks))]
