# SPDX-License-Identifier: GPL-2.0-or-later
"""Would the kernel take the module at all: its vermagic, its signature."""

from __future__ import annotations

from collections.abc import Iterator

from dynamosd.workshop.checks import contents
from dynamosd.workshop.checks.finding import Finding, Verdict
from dynamosd.workshop.checks.subject import Subject

KERNEL, SIGNATURE = "kernel", "signature"
_REBUILD = "build it against the headers of {}"
_SIGN_HINT = "sign it with a key that the kernel knows: docs/install.md"


def check_kernel(subject: Subject) -> Iterator[Finding]:
    """Compare the kernel that it was built for with the one that it is for."""
    kernel = subject.kernel
    remedy = _REBUILD.format(kernel.release)
    release, *flags = subject.modinfo.get("vermagic", "").split() or [""]
    if not release:
        yield Finding(KERNEL, Verdict.FAILED, "it does not say for which kernel it is", remedy)
    elif release != kernel.release:
        seen = f"it is built for {release}, and this is {kernel.release}"
        yield Finding(KERNEL, Verdict.FAILED, seen, remedy)
    elif kernel.flags is None:
        seen = f"built for {release}; with which options the kernel is built is not to be had"
        remedy = f"install the headers: apt install linux-headers-{release}"
        yield Finding(KERNEL, Verdict.WARNED, seen, remedy)
    elif sorted(flags) != sorted(kernel.flags):
        seen = f"built for a kernel that is {_words(flags)}; this one is {_words(kernel.flags)}"
        yield Finding(KERNEL, Verdict.FAILED, seen, remedy)
    else:
        yield Finding(KERNEL, Verdict.PASSED, f"built for {release} {_words(flags)}")


def _words(flags: list[str] | tuple[str, ...]) -> str:
    return " ".join(flags) or "without options"


def check_signature(subject: Subject) -> Iterator[Finding]:
    """Look for a signature, and whether the kernel asks for one. Whose it is, the kernel knows."""
    found, why = contents.signature(subject.data), subject.kernel.enforcement
    if found and not found.is_whole:
        seen = "its signature is broken"
        yield Finding(SIGNATURE, Verdict.FAILED, seen, "sign it again, and do not strip it then")
    elif found:
        seen = f"signed ({found.size} bytes); whether the kernel knows the key is not looked at"
        yield Finding(SIGNATURE, Verdict.PASSED, seen)
    elif why:
        yield Finding(SIGNATURE, Verdict.REFUSED, f"it is not signed, and {why}", _SIGN_HINT)
    else:
        seen = "not signed, which this kernel does not ask for"
        if not subject.kernel.is_running:
            seen = "not signed; whether that kernel will be locked down is not known"
        yield Finding(SIGNATURE, Verdict.PASSED, seen)
