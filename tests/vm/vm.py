# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a stock kernel over this machine's file system and run a command in it.

virtme-ng does the booting. This module decides what the guest sees: the project's folder
under a throw-away overlay, two folders that really are writable, the cached kernel's
modules and headers at /lib/modules, and an optional scratch disk.
"""

from __future__ import annotations

import compileall
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.vm import kernel_build, kernels, modules, programs
from tests.vm.common import (
    CACHE,
    EXIT_TIMEOUT,
    EXIT_UNSUPPORTED,
    EXIT_USAGE,
    PROJECT,
    HarnessError,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from tests.vm.disk import Disk

PYTHON = PROJECT / ".venv/bin/python"
VIRTME = PROJECT / ".venv/bin/virtme-run"
# What runs in the guest from this tree. A guest cannot keep compiled code for the next start.
_PROGRAMS = ("bench", "dynamosd", "tests")
GUEST_SCRIPT = PROJECT / "tests/vm/guest.sh"
SYSTEMD = PROJECT / "tests/vm/systemd"
# What the guest may write for the host to read.
SHARED = (PROJECT / "demo-out", CACHE / "vm-out")
DISK_MOUNT = "/mnt"
# virtme-run's own status when the guest went down without giving one.
_NO_STATUS = 255
_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "file": "file",
    "modprobe": "kmod",
    "udevadm": "udev",
}
_SYSTEMD_TOOLS = {"systemctl": "systemd"}
# Drivers for the emulated board that nothing here uses: not loading them saves 5 s a boot.
_UNUSED_DRIVERS = (
    "ahci,button,ccp,evdev,i2c_i801,iTCO_wdt,i6300esb,kvm,kvm_amd,kvm_intel,lpc_ich,pcspkr,"
    "psmouse,serio_raw,sg,sr_mod,"
    "aesni_intel,crct10dif_pclmul,ghash_clmulni_intel,sha1_ssse3,sha256_ssse3,sha512_ssse3"
)
# How QEMU runs emulated CPUs: `single` has them take turns, `multi` gives each a host thread.
# With `multi`, a CPU can go on executing an int3 that another one has already patched away: QEMU
# drops its translation of the old bytes before it stores the new ones, and a CPU that translates
# in between keeps the old ones. The kernel then dies of an `Oops: int3` where it patches its own
# text (static keys, static calls, ftrace) under load; see README.md here for how to see it.
TCG_THREADS = ("single", "multi")
# Variables that the guest's command sees; anything named DYNAMOS_* as well.
_PASSED = ("CI", "PYTEST_ADDOPTS", "TERM")
_GRACE_SECONDS = 5
_CONSOLE_TAIL = 60


@dataclass(frozen=True)
class Settings:
    """What a run is asked to be."""

    kernel: str = "6.1"
    memory: str = "1G"
    cpus: int = 2
    timeout: float = 1800.0
    disk: Disk | None = None
    systemd: bool = False
    build_modules: bool = True
    mutation: str = ""
    append: str = ""
    tcg: str = "single"
    qemu_options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def passed_environment() -> dict[str, str]:
    """Give those of this process's variables that the guest's command sees too."""
    return {
        key: value
        for key, value in os.environ.items()
        if key in _PASSED or key.startswith("DYNAMOS_")
    }


def default_memory(kernel: str) -> str:
    """Give the memory that a guest needs: checkers keep notes on every byte of it."""
    return "3G" if kernel in kernels.BUILT else "1G"


def default_slowness(kernel: str) -> str:
    """Tell how much slower than on a stock kernel things may be, which waits are multiplied by."""
    return "6" if kernel in kernels.BUILT else "1"


def kvm_usable() -> bool:
    """Tell whether KVM works: a /dev/kvm alone may belong to a host without the feature."""
    if not os.access("/dev/kvm", os.W_OK):
        return False
    flags = Path("/proc/cpuinfo").read_text().split()
    return "vmx" in flags or "svm" in flags


def _check_tools(tools: Mapping[str, str]) -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [pkg for tool, pkg in tools.items() if not shutil.which(tool, path=path)]
    if not VIRTME.exists():
        missing.append("virtme-ng (in .venv)")
    if missing:
        raise HarnessError(
            f"missing: {', '.join(missing)}; run `make setup` as root", EXIT_UNSUPPORTED
        )


def _compile() -> None:
    """Have Python's compiled code of what the guest will run where the guest looks for it."""
    for name in _PROGRAMS:
        compileall.compile_dir(PROJECT / name, quiet=2)


def _overlays(*more: Path) -> list[Path]:
    """Choose the folders that the guest may scribble on; the scribbles are thrown away."""
    # virtme links the kernel's modules below /lib, which a bare machine has no folder for.
    wanted = [Path("/etc"), Path("/usr/lib"), Path("/tmp"), *more, PROJECT]  # noqa: S108
    return [path for path in wanted if not any(other in path.parents for other in wanted)]


def _pump(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy bytes as they come, so that output is live."""
    while chunk := os.read(source.fileno(), 65536):
        target.write(chunk)
        target.flush()


class Vm:
    """One boot of one kernel: prepares a run folder, runs, cleans up."""

    def __init__(self, settings: Settings) -> None:
        """Check the machine and get the kernel and its modules ready."""
        if settings.tcg not in TCG_THREADS:
            raise HarnessError(f"TCG={settings.tcg}: single or multi", EXIT_USAGE)
        _check_tools(_TOOLS | (_SYSTEMD_TOOLS if settings.systemd else {}))
        self.settings = settings
        self.kernel = kernels.get(settings.kernel)
        if settings.build_modules:
            modules.build(settings.kernel, settings.mutation)
        programs.build()
        _compile()
        self._stop = threading.Event()

    def run(
        self,
        command: str,
        *,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> int:
        """Run a shell command in the guest and return its exit status."""
        with self._folder() as name:
            run_dir = Path(name)
            (run_dir / "command").write_text(command + "\n")
            argv = [*self._argv(run_dir), "--script-sh", str(GUEST_SCRIPT)]
            argv += self._qemu(run_dir)
            # Pipes, because QEMU opens its outputs by name: that truncates a file and
            # fails on a socket.
            process = subprocess.Popen(
                argv,
                env=self._host_environment(run_dir),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            status = self._wait(process, stdout or sys.stdout.buffer, stderr or sys.stderr.buffer)
            self._keep_console(run_dir, failed=status in {_NO_STATUS, EXIT_TIMEOUT})
            return status

    def shell(self) -> int:
        """Give the terminal to a shell in the guest."""
        if self.settings.systemd:
            raise HarnessError("SYSTEMD=1 needs a command: there is no shell", EXIT_USAGE)
        with self._folder() as name:
            run_dir = Path(name)
            argv = [*self._argv(run_dir), "--shell", str(GUEST_SCRIPT)]
            argv += self._qemu(run_dir)
            status = subprocess.call(argv, env=self._host_environment(run_dir))
            self._keep_console(run_dir, failed=False)
            return status

    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        """Make the run's folder; whatever is in it goes when the run ends."""
        runs = CACHE / "vm"
        runs.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=runs, prefix="run-")
        try:
            self._fill(Path(folder.name))
        except BaseException:
            folder.cleanup()
            raise
        return folder

    def _fill(self, run_dir: Path) -> None:
        settings = self.settings
        for shared in SHARED:
            shared.mkdir(parents=True, exist_ok=True)
        environment = {
            "DYNAMOS_SLOWNESS": default_slowness(settings.kernel),
            **settings.environment,
            "DYNAMOS_PROJECT": str(PROJECT),
            "DYNAMOS_KERNEL": settings.kernel,
            "DYNAMOS_OUT": str(SHARED[1]),
        }
        if settings.disk:
            settings.disk.create(run_dir / "disk.img")
            environment["DYNAMOS_DISK"] = DISK_MOUNT
        lines = [f"{key}={shlex.quote(value)}\n" for key, value in environment.items()]
        (run_dir / "env").write_text("".join(lines))

    def _argv(self, run_dir: Path) -> list[str]:
        settings = self.settings
        argv = [
            str(PYTHON),
            "-m",
            "tests.vm.virtme_run",
            *(["--init", str(SYSTEMD)] if settings.systemd else []),
            "--kimg",
            str(self.kernel.image),
            "--mods=auto",
            "--force-9p",
            "--memory",
            settings.memory,
            "--cpus",
            str(settings.cpus),
            "--name",
            "dynamos",
        ]
        if not kvm_usable():
            argv.append("--disable-kvm")
        for overlay in _overlays(*([Path("/var")] if settings.systemd else [])):
            argv += ["--overlay-rwdir", str(overlay)]
        for shared in SHARED:
            argv += ["--rwdir", str(shared)]
        options = [
            f"DYNAMOS_RUN={run_dir}",
            # The serial driver serves only one console, which virtme has taken; an early
            # console that is kept writes to the second port by itself, in a panic too.
            "earlycon=uart8250,io,0x2f8,115200",
            "keep_bootcon",
            # At boot the kernel gives the emulated timer a moment to tick, and panics if it does
            # not: on a busy host it may not.
            "no_timer_check",
            "loglevel=6",
            f"modprobe.blacklist={_UNUSED_DRIVERS}",
            *kernel_build.BOOT.get(settings.kernel, ()),
        ]
        options += shlex.split(settings.append)
        for option in options:
            argv += ["--kopt", option]
        return argv

    def _qemu(self, run_dir: Path) -> list[str]:
        """End the command line with QEMU's own options, which virtme wants last."""
        options = ["-serial", f"file:{run_dir}/console.log"]
        if not kvm_usable():
            options += ["-accel", f"tcg,thread={self.settings.tcg}"]
        if self.settings.disk:
            options += self.settings.disk.qemu_options(run_dir / "disk.img")
        return ["--qemu-opts", *options, *self.settings.qemu_options]

    @staticmethod
    def _host_environment(run_dir: Path) -> dict[str, str]:
        """Keep virtme's own temporary files in the run's folder, and find our modules."""
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return {
            **os.environ,
            "PATH": path,
            "PYTHONPATH": str(PROJECT),
            "TMPDIR": str(run_dir),
        }

    def _wait(self, process: subprocess.Popen[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> int:
        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            threading.Thread(target=_pump, args=(process.stdout, stdout), daemon=True),
            threading.Thread(target=_pump, args=(process.stderr, stderr), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        try:
            status = process.wait(self.settings.timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            say(f"CMD did not end within {self.settings.timeout:.0f} s: the VM was killed")
            return EXIT_TIMEOUT
        except BaseException:
            _kill(process)
            raise
        for pump in pumps:
            pump.join(_GRACE_SECONDS)
        return status

    def _keep_console(self, run_dir: Path, *, failed: bool) -> None:
        """Save the kernel's messages, and show their end when the guest broke down."""
        console = run_dir / "console.log"
        if not console.exists():
            return
        # Two VMs of one kernel may run at a time, one of them with systemd.
        name = self.settings.kernel + ("-systemd" if self.settings.systemd else "")
        kept = SHARED[1] / f"console-{name}.log"
        shutil.copy(console, kept)
        if failed:
            text = console.read_text(errors="replace").replace("\r", "")
            say(f"the guest's last kernel messages (all of them: {kept}):")
            print("\n".join(text.splitlines()[-_CONSOLE_TAIL:]), file=sys.stderr)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End virtme and QEMU, politely first so that they clean up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def exit_on_signals() -> None:
    """Turn a termination into an exception, so that the VM goes with us."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)
