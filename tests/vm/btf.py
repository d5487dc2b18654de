# SPDX-License-Identifier: GPL-2.0-or-later
"""Give a kernel's build folder the type information (BTF) that modules are built against.

Kbuild takes it from a file named vmlinux. Newer header packages carry such a file with
nothing but BTF in it; for older ones it is cut out of the boot image the same way.
"""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

from tests.vm.common import HarnessError, run

if TYPE_CHECKING:
    from pathlib import Path

_XZ_MAGIC = b"\xfd7zXZ\x00"


def _unpack_image(image: Path) -> bytes:
    """Return the ELF file inside a compressed boot image."""
    data = image.read_bytes()
    start = data.find(_XZ_MAGIC)
    if start < 0:
        raise HarnessError(f"{image.name} is not compressed with xz: no BTF for modules")
    return lzma.LZMADecompressor().decompress(data[start:])


def ensure_vmlinux(image: Path, build: Path) -> None:
    """Put a BTF-only vmlinux into the build folder if it has none."""
    target = build / "vmlinux"
    if target.exists():
        return
    whole = build / "vmlinux.whole"
    whole.write_bytes(_unpack_image(image))
    run(["objcopy", "--only-section=.BTF", "--only-section=.BTF_ids", whole, target])
    whole.unlink()
