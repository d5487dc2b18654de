# SPDX-License-Identifier: GPL-2.0-or-later
"""A file whose reader stays inside readahead for as long as the test wants.

A FUSE file system of one file, which the test answers itself: without asynchronous reads (the
flag is not set in the answer to INIT), a thread that reads ahead waits for the answer. So a call
is in flight until `release`, on any machine, however slow or fast.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self

from tests.kernel import guest
from tests.kernel.block import Block

_HEADER_IN = struct.Struct("<IIQQIIII")
_HEADER_OUT = struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_ATTR_OUT = struct.Struct("<QIIQQQQQQIIIIIIIIII")
_OPEN_OUT = struct.Struct("<QII")
_READ_IN = struct.Struct("<QQI")


class _Op(enum.IntEnum):
    """The requests that matter, from include/uapi/linux/fuse.h."""

    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    INTERRUPT = 36
    BATCH_FORGET = 42


_NO_ANSWER = {_Op.FORGET, _Op.BATCH_FORGET, _Op.INTERRUPT}

_VERSION = (7, 31)
_REQUEST_BYTES = 256 * 1024
_READAHEAD_BYTES = 128 * 1024
_MS_NOSUID_NODEV = 2 | 4
_MNT_FORCE_DETACH = 1 | 2


class BlockedFile(Block):
    """One such file, mounted for the length of a block. ``path`` is where."""

    size = 1 << 20

    def __init__(self) -> None:
        """Prepare; the block mounts it."""
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name, "blocked")
        self._fd = -1
        self._lock = threading.Lock()
        self._free = False
        self._held: list[tuple[int, int]] = []
        self._readers: list[subprocess.Popen[bytes]] = []
        self._server = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        """Mount the file."""
        if (
            not Path("/dev/fuse").exists()
            or "\tfuse\n" not in Path("/proc/filesystems").read_text()
        ):
            assert guest.run("modprobe", "fuse").returncode == 0
        self.path.touch()
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode={stat.S_IFREG:o},user_id=0,group_id=0"
        guest.check(
            guest.libc.mount(
                b"blocked", bytes(self.path), b"fuse", _MS_NOSUID_NODEV, options.encode()
            ),
            "mounting the blocked file",
        )
        self._server.start()
        return self

    def end(self) -> None:
        """Let everyone go, and unmount."""
        self.release()
        guest.libc.umount2(bytes(self.path), _MNT_FORCE_DETACH)
        self._server.join(guest.PATIENCE)
        os.close(self._fd)
        self._folder.cleanup()

    def read(self) -> None:
        """Have another process read the file's beginning; it is stuck in there on return.

        Another process, because a thread of this one that is stuck would keep a dying test alive.
        """
        argv = ["dd", f"if={self.path}", "of=/dev/null", "bs=4096", "count=1", "status=none"]
        before = self.waiting()
        self._readers.append(subprocess.Popen(argv))
        guest.wait_until(lambda: self.waiting() > before, "a reader is stuck in the file")

    def release(self) -> None:
        """Answer all reads, now and from now on; returns when all readers have ended well."""
        with self._lock:
            self._free = True
            held, self._held = self._held, []
        for unique, size in held:
            self._answer(unique, bytes(size))
        for reader in self._readers:
            assert reader.wait(guest.PATIENCE) == 0
        self._readers.clear()

    def waiting(self) -> int:
        """How many reads wait for their answer."""
        with self._lock:
            return len(self._held)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, _REQUEST_BYTES)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.EINTR, errno.EAGAIN}:
                    continue
                return
            _, opcode, unique, *_ = _HEADER_IN.unpack_from(request)
            if opcode not in _NO_ANSWER:
                self._handle(opcode, unique, request[_HEADER_IN.size :])

    def _handle(self, opcode: int, unique: int, body: bytes) -> None:
        match opcode:
            case _Op.INIT:
                flags = 0
                limits = (16, 12, 4096, 1, 0, 0, 0)
                self._answer(unique, _INIT_OUT.pack(*_VERSION, _READAHEAD_BYTES, flags, *limits))
            case _Op.GETATTR:
                times = (0, 0, 0, 0, 0, 0)
                mode = stat.S_IFREG | 0o444
                attr = (1, self.size, self.size // 512, *times, mode, 1, 0, 0, 0, 4096, 0)
                self._answer(unique, _ATTR_OUT.pack(3600, 0, 0, *attr))
            case _Op.OPEN:
                self._answer(unique, _OPEN_OUT.pack(1, 0, 0))
            case _Op.READ:
                self._read(unique, *_READ_IN.unpack_from(body))
            case _Op.RELEASE | _Op.FLUSH:
                self._answer(unique, b"")
            case _:
                self._answer(unique, b"", errno.ENOSYS)

    def _read(self, unique: int, _handle: int, offset: int, size: int) -> None:
        size = max(0, min(size, self.size - offset))
        with self._lock:
            if not self._free:
                self._held.append((unique, size))
                return
        self._answer(unique, bytes(size))

    def _answer(self, unique: int, body: bytes, error: int = 0) -> None:
        header = _HEADER_OUT.pack(_HEADER_OUT.size + len(body), -error, unique)
        # A request whose caller was killed has gone: ENOENT.
        guest.answer(lambda: os.write(self._fd, header + body))
