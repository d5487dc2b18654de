# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own style checker, which header packages lack.

It is taken out of Debian's kernel source package, once, and kept in the cache; the
package itself (about 140 MB) is not.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.vm import source
from tests.vm.common import CACHE, PROJECT, locked, say

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = CACHE / "checkpatch"
_FILES = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")

# Each with its reason; everything else that checkpatch says is an error.
_IGNORED = {
    "FILE_PATH_CHANGES": "MAINTAINERS is a file of the kernel's tree, not of ours",
    "SPDX_LICENSE_TAG": "checks the C++ comment form per file kind inside the kernel's tree",
    "LINUX_VERSION_CODE": "an out-of-tree module does need compat.h",
    "CONST_STRUCT": "the list names structures that our callbacks must not share",
    "AVOID_EXTERNS": "assembly labels are declared where they are used",
    "MACRO_ARG_REUSE": "tracepoint and edition macros take names, which have no side effects",
    "MACRO_ARG_UNUSED": "the same: some expansions take only the types",
    "COMPLEX_MACRO": "macros that define functions cannot be put in parentheses",
    "CONSTANT_COMPARISON": "takes LINUX_VERSION_CODE on the left for a constant",
    "NEW_TYPEDEFS": "a function's type needs a name for static_call and for comparing prototypes",
    "MACRO_WITH_FLOW_CONTROL": "the wrappers' macros are functions; their ifs guard tracepoints",
    "EXPORT_SYMBOL": "it follows the definition, but in a macro checkpatch cannot see that",
    "OPEN_ENDED_LINE": "the form of TRACE_EVENT()",
    "PARENTHESIS_ALIGNMENT": "the form of TRACE_EVENT()",
    "TRACING_LOGGING": "only for code that has ftrace's own entry tracing, gated code has not",
}


def _fetch() -> None:
    work = _FOLDER.with_name("checkpatch.new")
    shutil.rmtree(work, ignore_errors=True)
    (work / "out").mkdir(parents=True)
    say("fetching checkpatch (out of the kernel source package, once)")
    package = source.download(work)
    source.extract(package, work / "out", *(f"*/scripts/{name}" for name in _FILES))
    (work / "out").rename(_FOLDER)
    shutil.rmtree(work)


def check(files: list[Path]) -> list[str]:
    """Return what checkpatch has to say about the files."""
    with locked(CACHE / "checkpatch.lock"):
        if not _FOLDER.is_dir():
            _fetch()
    names = [str(path.relative_to(PROJECT)) for path in files]
    command = ["perl", str(_FOLDER / "checkpatch.pl"), "--no-tree", "--strict", "--terse"]
    command += ["--no-summary", "--show-types", "--max-line-length=120"]
    command += ["--ignore", ",".join(_IGNORED), "-f", *names]
    done = subprocess.run(command, cwd=PROJECT, text=True, capture_output=True)
    return (done.stdout + done.stderr).splitlines()
