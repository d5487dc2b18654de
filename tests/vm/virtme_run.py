# SPDX-License-Identifier: GPL-2.0-or-later
"""virtme-run, but the guest keeps in memory what it has read of this machine's file system.

As virtme mounts it, each `open` has the guest ask the host anew, and a file's pages are forgotten
with its last user: a program that starts again reads all its libraries again. Under emulation
that is most of the time that starting one takes.

With `--init FOLDER` before virtme's own options, the guest's first program is the `virtme-init` in
that folder.
"""

from __future__ import annotations

import sys

from virtme import mkinitramfs, resources
from virtme.commands.run import main

_TEMPLATE = "_MOUNT_ROOT_HOST"
_PLAIN = "trans=virtio,"
# The guest does not look whether a file it knows has changed on the host: the file system is
# read-only, and what is under an overlay must not change anyway. What the host is to read from
# the guest is on other mounts, which stay as they are.
_CACHED = _PLAIN + "cache=loose,"


def cache_root() -> None:
    """Have the guest's root mounted with a cache, or not at all: then this virtme is another."""
    template = getattr(mkinitramfs, _TEMPLATE)
    if template.count(_PLAIN) != 1:
        sys.exit("virtme: its way to mount the guest's root is not the one that is known here")
    setattr(mkinitramfs, _TEMPLATE, template.replace(_PLAIN, _CACHED))


def use_init() -> None:
    """Have the guest begin with another program than virtme's, if that is asked for."""
    if sys.argv[1:2] == ["--init"]:
        folder = sys.argv[2]
        del sys.argv[1:3]
        setattr(resources, "find_guest_tools", lambda: folder)  # noqa: B010 - typed otherwise


if __name__ == "__main__":
    cache_root()
    use_init()
    sys.exit(main())
