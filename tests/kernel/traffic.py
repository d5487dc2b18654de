# SPDX-License-Identifier: GPL-2.0-or-later
"""Data that flows while a test does something else, and is compared: no byte may be lost."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.kernel import control, guest
from tests.kernel.neighbours import Kprobe, kprobe

ENGINES = ("psync", "mmap")
"""How fio reads and writes in `VerifiedIo`; a file of each name is in its folder."""

ROUNDS = 2
"""It goes on until everything was written and read so many times, unless something else is said."""

# Everything that goes through the pipe is summed, and every sum is the same.
_STREAM = "while :; do seq 20000 | md5sum; done"
# Only the file leaves the page cache: programs come over 9p here, and are slow to be read again.
_FILE = "while :; do dd if={0} iflag=nocache count=0 status=none && md5sum < {0}; done"


@contextmanager
def worker(script: str, output: Path) -> Iterator[None]:
    """Have a shell run a script, which is killed, with all its children, at the end."""
    with output.open("w") as out:
        shell = subprocess.Popen(["setsid", "--wait", "sh", "-c", script], stdout=out, stderr=out)
    try:
        yield
        assert shell.poll() is None, output.read_text()
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(_session_of(shell.pid))])
        shell.kill()
        shell.wait(guest.PATIENCE)


def _session_of(pid: int) -> int:
    """Give the session that setsid has made: that of its child, or of itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


@contextmanager
def stress_ng(folder: Path) -> Iterator[None]:
    """Have stress-ng use pipes, mappings, the disk and the scheduler."""
    stressors = {
        "pipe": 1,
        "mmap": 1,
        "mmap-bytes": "16M",
        "hdd": 1,
        "hdd-bytes": "8M",
        "switch": 1,
    }
    options = [word for name, value in stressors.items() for word in (f"--{name}", str(value))]
    argv = ["stress-ng", *options, "--temp-path", str(folder)]
    load = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        assert load.poll() is None, "stress-ng has given up"
    finally:
        load.terminate()
        load.wait(guest.PATIENCE)


# ------------------------------------------------------------------------------------- sums


@dataclass(frozen=True, slots=True)
class Sums:
    """Checksums of the same data, again and again, in a file each."""

    outputs: tuple[Path, ...]

    def there_are_some(self) -> bool:
        """Whether there are some of each."""
        return min(output.read_text().count("\n") for output in self.outputs) > 2

    def check(self) -> None:
        """Fail if two of the same data differ."""
        for output in self.outputs:
            sums = output.read_text().split("\n")[:-1]
            assert len(sums) > 1, f"{output.name}: no sums"
            assert len(set(sums)) == 1, f"{output.name}: lost bytes: {Counter(sums)}"


@contextmanager
def summing(scripts: Mapping[str, str], folder: Path) -> Iterator[Sums]:
    """Have shells say the same line again and again for the length of a block, a file for each.

    At its end there are some lines of each, and they are compared. That is done before the shells
    are killed: a summing program that lives a moment longer than what it reads from sums a part.
    """
    sums = Sums(tuple(folder / name for name in scripts))
    with ExitStack() as workers:
        for output, script in zip(sums.outputs, scripts.values(), strict=True):
            workers.enter_context(worker(script, output))
        yield sums
        guest.wait_until(sums.there_are_some, "some sums of each")
        sums.check()


@contextmanager
def summed(data: Path, folder: Path) -> Iterator[Sums]:
    """Have data go through a pipe, and a file be read from the disk, for the length of a block."""
    with summing({"stream": _STREAM, "file": _FILE.format(data)}, folder) as sums:
        yield sums


# ----------------------------------------------------------------------------- verified files


class VerifiedIo(threading.Thread):
    """Has fio write and verify, through read() and through mappings, until it is told to stop.

    A page that is in the page cache is not read again: each verifying pass begins without any of
    the files there, and is a process of its own, because pages that are mapped stay.
    """

    def __init__(self, folder: Path, least: int = ROUNDS) -> None:
        """Use files in ``folder``, and go on for so many rounds at least."""
        super().__init__(daemon=True)
        self._least = least
        self.rounds = 0
        self.verified = Counter[str]()
        self.failures: list[str] = []
        self.enough = threading.Event()
        self._folder = folder

    def run(self) -> None:
        """Write anew, read in sequence and at random, and again."""
        while not self.failures and (self.rounds < self._least or not self.enough.is_set()):
            self._fio("write" if self.rounds == 0 else "randwrite")
            for pattern in ("read", "randread"):
                for engine in ENGINES:
                    guest.evict(self._folder / engine)
                self._fio(pattern)
            self.rounds += 1

    def _fio(self, pattern: str) -> None:
        argv = ["fio", "--output-format=json", f"--directory={self._folder}", f"--rw={pattern}"]
        argv += ["--size=12m", "--bs=16k", "--verify=crc32c", "--verify_fatal=1"]
        argv += ["--verify_state_save=0", "--do_verify=0", "--thread"]
        # Or fio would tell the kernel that it reads at random, and nothing would be read ahead.
        argv += ["--fadvise_hint=0"]
        if "write" in pattern:
            argv += ["--end_fsync=1"]
        for engine in ENGINES:
            argv += [f"--name={engine}", f"--ioengine={engine}", f"--filename={engine}"]
        done = guest.run(*argv)
        text = done.stdout[done.stdout.find("{") :]
        if done.returncode or not text:
            self.failures.append(f"{pattern}: status {done.returncode}: {done.stderr[-2000:]}")
            return
        for job in json.loads(text)["jobs"]:
            if job["error"]:
                self.failures.append(f"{pattern}, {job['jobname']}: error {job['error']}")
            self.verified[job["jobname"]] += job["read"]["io_bytes"]

    def stop(self) -> None:
        """Return when it has come to an end, and all was well."""
        self.enough.set()
        self.join()
        assert not self.failures
        assert self.rounds >= self._least


@contextmanager
def verified_io(folder: Path, least: int = ROUNDS) -> Iterator[VerifiedIo]:
    """Have it go on for the length of a block."""
    io = VerifiedIo(folder, least)
    io.start()
    try:
        yield io
    finally:
        io.stop()


# ------------------------------------------------------------------------------------- calls


@contextmanager
def counted(subsystem: str, function: str) -> Iterator[None]:
    """Prove that a function's counters miss no call of the block, and double none.

    A kprobe on it counts too. Gates and editions must stay as they are.
    """
    with kprobe(function) as probe:
        ahead = partial(_surplus, probe, subsystem, function)
        before = _steady(ahead)
        yield
        guest.wait_until(lambda: ahead() == before, "the counters are exact")


def _surplus(probe: Kprobe, subsystem: str, function: str) -> int:
    """Give by how much the counters are ahead of the probe."""
    counters = (control.SYSFS / subsystem / "functions" / function).glob("*/calls")
    return sum(int(path.read_text()) for path in counters) - probe.hits()


def _steady(measure: Callable[[], int]) -> int:
    """Measure in a moment in which nobody makes a call."""
    readings = [0, 1]

    def is_steady() -> bool:
        readings.append(measure())
        return readings[-1] == readings[-2]

    guest.wait_until(is_steady, "a moment without calls")
    return readings[-1]
