# SPDX-License-Identifier: GPL-2.0-or-later
"""A scratch disk for the guest: sparse file, ext4, optionally slow on purpose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.vm.common import EXIT_USAGE, HarnessError, run

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_ID = "dynamos"


def parse_size(text: str) -> int:
    """Read `4096`, `800K`, `64M` or `1G`."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip().upper())
    if not match:
        raise HarnessError(f"not a size: {text!r} (say 64M or 1G)", EXIT_USAGE)
    return int(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class Disk:
    """What the scratch disk should be like; zero means unlimited."""

    size: int
    bytes_per_second: int = 0
    operations_per_second: int = 0
    contents: Path | None = None
    """A folder whose files are on the disk from the start."""

    def create(self, path: Path) -> None:
        """Make the image; all of ext4's initialisation is done now, none in the guest."""
        with path.open("wb") as image:
            image.truncate(self.size)
        options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
        if self.contents:
            options += ["-d", str(self.contents)]
        run(["mkfs.ext4", *options, path], what="mkfs.ext4")

    def qemu_options(self, path: Path) -> list[str]:
        """Attach the image as a virtio disk."""
        drive = f"if=none,id={_ID},file={path},format=raw,cache=unsafe"
        if self.bytes_per_second:
            drive += f",throttling.bps-total={self.bytes_per_second}"
        if self.operations_per_second:
            drive += f",throttling.iops-total={self.operations_per_second}"
        device = f"virtio-blk-pci,drive={_ID},serial={_ID}"
        return ["-drive", drive, "-device", device]
