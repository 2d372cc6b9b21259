"""A machine that runs: its console on a socket, its end by shutting down or by cutting the power.

qemu/test starts one after the other over the same disk. Nothing of a run outlives it: leaving the `with` block ends
QEMU whatever happened in it.
"""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from console import Console, HungUp
from machine import Machine, MachineError

# Texts of FreeBSD's kernel, loader and rc(8) after which nothing good comes.
ALARMS = (
    r"^panic: ",
    r"^KDB: enter",
    r"^mountroot> ",
    r"Enter full pathname of shell",
    r"can't load 'kernel'",
    r"^gptboot: No .*partition",
    r"!!!! X64 Exception",
)

# How long QEMU may take to begin, in seconds.
_STARTS_WITHIN = 30


def _carry(line: socket.socket, to: int) -> None:
    """Takes what the machine prints at once: a machine whose console nobody reads stands still at a few hundred bytes."""
    with contextlib.suppress(OSError), os.fdopen(to, "wb", buffering=0) as pipe:
        if sys.platform == "linux":
            fcntl.fcntl(to, fcntl.F_SETPIPE_SZ, 1 << 20)
        while data := line.recv(65536):
            pipe.write(data)


class Running:
    """QEMU with `machine`; `directory` is for its sockets (a short path), `log` for what it printed."""

    def __init__(self, machine: Machine, directory: Path, log: Path):
        self._machine = machine
        self._path = directory / "console"
        self._log = log
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Running":
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            listener.listen(1)
            listener.settimeout(1)
            transcript = stack.enter_context(self._log.open("ab"))
            complaints = stack.enter_context(self._log.with_suffix(".qemu").open("ab"))
            command = self._machine.command(
                ["-chardev", f"socket,id=console,path={self._path}", "-serial", "chardev:console"],
                monitor=self._path.with_name("monitor"))
            self.powered_on = time.monotonic()
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints)
            stack.callback(self.cut_power)
            line = self._accept(listener)
            stack.enter_context(line)
            heard, said = os.pipe()
            stack.callback(os.close, heard)
            reader = threading.Thread(target=_carry, args=(line, said))
            reader.start()
            # In this order: QEMU ends, so the line does, so the reader does.
            stack.callback(reader.join)
            stack.callback(self.cut_power)
            self.console = Console(heard, transcript, ALARMS, send_to=line.fileno())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.close()

    def _accept(self, listener: socket.socket) -> socket.socket:
        """The console's line, which QEMU opens when it starts."""
        for _ in range(_STARTS_WITHIN):
            with contextlib.suppress(TimeoutError):
                return listener.accept()[0]
            if self._process.poll() is not None:
                break
        said = self._log.with_suffix(".qemu").read_text(errors="replace").strip()
        raise MachineError(f"QEMU does not start: {said or 'it says nothing'}")

    def cut_power(self) -> None:
        """The machine is off at once: what it had not written is lost."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def wait_off(self, timeout: float) -> None:
        """Waits until the machine has powered itself off."""
        try:
            self.console.follow_to_end(timeout)
        except HungUp:
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired as error:
            raise MachineError("the line is dead, but QEMU has not ended") from error
