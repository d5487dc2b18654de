# SPDX-License-Identifier: GPL-2.0-or-later
"""What the core has allocated and not freed yet, as the kernel's own tracepoints tell."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bcc import BPF

from tests.kernel import guest

_PROGRAM = b"""
BPF_ARRAY(text, u64, 2);                /* begin and end */
BPF_HASH(there, u64, u64, 65536);       /* by pointer: where it was allocated */

TRACEPOINT_PROBE(kmem, kmalloc)
{
    int first = 0, second = 1;
    u64 *begin = text.lookup(&first), *end = text.lookup(&second);
    u64 site = (u64)args->call_site, pointer = (u64)args->ptr;

    if (begin && end && pointer && site >= *begin && site < *end)
        there.update(&pointer, &site);
    return 0;
}

TRACEPOINT_PROBE(kmem, kfree)
{
    u64 pointer = (u64)args->ptr;

    there.delete(&pointer);
    return 0;
}
"""


class Allocations:
    """Follows what calls of kmalloc that stand in the core's text have returned.

    Who frees it does not matter. What the kernel allocates for the core (names of folders, areas
    for each CPU) is not among them: that is left to kmemleak. So is what is freed after a grace
    period, by whole pages of pointers, of which no tracepoint tells: the lists of places.
    """

    def __init__(self) -> None:
        """Compile the program, which takes its time; nothing is followed yet."""
        self._bpf = BPF(text=_PROGRAM)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow what the core, which is loaded, allocates during the block, from nothing on."""
        begin, end = _text()
        self._set_text(begin, end)
        self._bpf[b"there"].clear()
        try:
            yield
        finally:
            self._set_text(0, 0)

    def outstanding(self) -> list[str]:
        """Where each was allocated that is still there."""
        names = [
            self._bpf.ksym(site.value, show_module=True, show_offset=True).decode()
            for site in self._bpf[b"there"].values()
        ]
        return sorted(name for name in names if not name.startswith("places_"))

    def close(self) -> None:
        """Take the program out."""
        self._bpf.cleanup()

    def _set_text(self, begin: int, end: int) -> None:
        for place, address in enumerate((begin, end)):
            self._bpf[b"text"][ctypes.c_int(place)] = ctypes.c_uint64(address)


def _text() -> tuple[int, int]:
    """Begin and end of the core's text."""
    start = int(Path("/sys/module", guest.CORE, "sections/.text").read_text(), 16)
    size = Path("/sys/module", guest.CORE, "coresize").read_text()
    return start, start + int(size)
