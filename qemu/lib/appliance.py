"""The appliance as a person meets it: its first boot, its login and menu on the serial console, its API.

qemu/test's steps are written in these words. The dialogue's and the menu's texts that are recognised here are those
of the firmware's `console` room.
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from api import Api, ApiError, Unanswered
from console import Alarm, Console, Question
from machine import Machine
from running import Running

ROOT_PASSWORD = "Root-Horse-1"
ADMINISTRATOR = "admin"
PASSWORD = "Correct-Horse-1"

# A prompt that has a default, which Enter takes: `Hostname [aifw]: `, `Choice [1]: `, `Enable DHCP server? [Y/n]: `.
_PROMPT = r"^[^\n]*\[[^\]\n]*\]: $"
# The prompt of login(1); a message of the system may follow it on the same line.
_LOGIN = r"(?<!Last )login: "
# The loader's prompt.
_LOADER = r"^OK $"
_MENU = r"^Enter a number: $"
# The kernel's last words before it resets the machine.
_GOES_DOWN = r"^Uptime: "
# The end of the output of a command in the shell, and its exit status. The command's echo has `$?` there.
_DONE = r"^=(\d+)=$"


class Failure(Exception):
    """The appliance does not do what it should."""


@dataclass(frozen=True)
class Memory:
    """What the memory of the running system is used for, in MiB."""

    total_mib: float
    used_mib: float
    programs: list[tuple[str, float]]


@dataclass(frozen=True)
class Login:
    """What the console shows before it asks who is there, and between the password and the menu."""

    banner: str
    greeting: str


class Appliance:
    """One appliance: its machine, on or off, and the API at the forwarded port."""

    def __init__(self, machine: Machine, directory: Path, logs: Path):
        if machine.api_port is None:
            raise ValueError("the machine forwards no port to the API")
        self.machine = machine
        self.api = Api(machine.api_port, timeout=self.seconds(20))
        self._directory = directory
        self._logs = logs
        self._log = logs / "console.log"
        self._running: Running | None = None
        self._at_shell = False

    def __enter__(self) -> "Appliance":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._end()

    def with_disks(self, disk: Path, second: Path | None = None) -> "Appliance":
        """Another appliance in a machine like this one, with other disks; only one of the two may be on."""
        other = Appliance(replace(self.machine, disk=disk, second_disk=second), self._directory, self._logs)
        other._log = self._log
        return other

    @property
    def root_password(self) -> str:
        """root's, on the console and through SSH."""
        return ROOT_PASSWORD

    @property
    def console(self) -> Console:
        """The serial console of the machine, which is on."""
        if self._running is None:
            raise Failure("the machine is off")
        return self._running.console

    def seconds(self, native: float) -> float:
        """A time limit for what takes up to `native` seconds on a real machine."""
        return native * self.machine.acceleration.patience

    def log_to(self, name: str) -> None:
        """The next machine's console goes to a file of this name; one that runs keeps its own."""
        self._log = self._logs / name
        self._log.unlink(missing_ok=True)

    # Power.

    def power_on(self) -> float:
        """Switches the machine on; returns when (monotonic)."""
        self._end()
        self._running = Running(self.machine, self._directory, self._log)
        self._running.__enter__()
        return self._running.powered_on

    def power_off(self) -> None:
        """Powers the appliance off through the API, and waits until it is off."""
        self.api.post("/updates/shutdown")
        assert self._running is not None
        self._running.wait_off(self.seconds(90))
        self._end()

    def cut_power(self) -> None:
        """Cuts the power."""
        assert self._running is not None
        self._running.cut_power()
        self._end()

    def reboot(self) -> None:
        """Reboots through the API, and waits until the console asks for a login and the API answers."""
        self._reboot_begins()
        self.wait_for_login()
        self.api.wait(self.seconds(120))

    def reboot_and_cut(self) -> None:
        """Reboots through the API, and cuts the power once the kernel mounts the slot that is booted."""
        self._reboot_begins()
        self.console.expect(r"^Trying to mount root from", timeout=self.seconds(120))
        self.cut_power()

    def power_on_into_emergency(self) -> None:
        """Switches on, and waits for the console to say that the stored configuration cannot be used."""
        self.power_on()
        self.console.expect(r"EMERGENCY", timeout=self.seconds(180))
        # The dialogue begins, as nothing is known of a root password or a setup: Ctrl-C leads to the menu.
        self.first_question()
        self.console.send("\x03")
        self.console.expect(_MENU, timeout=self.seconds(30))

    def reboot_by_shell(self) -> None:
        """Reboots from root's shell on the console, and waits until the API answers."""
        self._enter_shell()
        self.console.line("shutdown -r now")
        self.console.expect(_GOES_DOWN, timeout=self.seconds(90))
        self._at_shell = False
        self.wait_for_login()
        self.api.wait(self.seconds(120))

    def reboot_to_loader(self) -> None:
        """Reboots through the API, and stops at the loader's prompt."""
        self._reboot_begins()
        self.console.expect(r"Hit \[Enter\] to boot", timeout=self.seconds(60))
        self.console.send(" ")
        self.console.expect(_LOADER, timeout=self.seconds(30))

    def loader(self, command: str) -> None:
        """A command at the loader's prompt; `boot` has no other one."""
        self.console.line(command)
        if not command.startswith("boot"):
            self.console.expect(_LOADER, timeout=self.seconds(30))

    def single_user_shell(self, command: str) -> str:
        """Boots to a single user from the loader's prompt; what a command says there; then boots as always."""
        self.loader("boot -s")
        with contextlib.suppress(Alarm):  # it is one where nobody asked for it
            self.console.expect("Enter full pathname of shell", timeout=self.seconds(180))
        self.console.expect(r"or RETURN for \S+: $", timeout=self.seconds(30))
        self.console.line()
        self.console.expect(r"^[^\n]*# ?$", timeout=self.seconds(30))
        self.console.line(f"{command}; echo =$?=")
        said = self.console.expect(_DONE, timeout=self.seconds(60)).before
        self.console.line("reboot")
        self.console.expect(_GOES_DOWN, timeout=self.seconds(90))
        self.wait_for_login()
        self.api.wait(self.seconds(120))
        return said

    def _reboot_begins(self) -> None:
        self.api.post("/updates/reboot")
        self.console.expect(_GOES_DOWN, timeout=self.seconds(90))
        self._at_shell = False

    def _end(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)
        self._running = None
        self._at_shell = False

    def wait(self, what: str, there: Callable[[], object], tell: Callable[[], object] = str) -> None:
        """Waits for what the appliance does by itself, of which no event tells this side of the line; `tell` says how
        things are when it does not come."""
        deadline = time.monotonic() + self.seconds(60)
        while not there():
            if time.monotonic() > deadline:
                raise Failure(f"not in time: {what} {tell()}")
            time.sleep(0.2)

    # The console.

    def first_question(self) -> None:
        """Waits for the first boot's dialogue; where the console asks for a login, root has no password yet."""
        heard = self.console.expect(r"^Step 1/11", _LOGIN, timeout=self.seconds(180))
        if heard.index == 1:
            self.console.line("root")
            self.console.expect(r"^Step 1/11", timeout=self.seconds(120))

    def set_up(self, administrator: str = ADMINISTRATOR, password: str = PASSWORD) -> None:
        """Answers the first boot's questions: passwords, the administrator's name, and Enter for all others.

        So the appliance gets what its defaults say (contract/console.md, behaviour 1): the first card is the WAN
        with DHCP, the second one the LAN with 192.168.1.1/24.
        """
        questions = [
            Question(r"^(?:New password|Password|The same once more): $", [ROOT_PASSWORD] * 2 + [password] * 2),
            Question(r"^User \[admin\]: $", [administrator]),
            Question(r"^[^\n]*\(Enter = none\): $", [""] * 2),  # GitHub user name, public key
            Question(_PROMPT, [""] * 40),
        ]
        heard = self.console.answer(questions, until=r"^ +Web UI: (https://\S+)\s|^\[ERROR\][^\n]*\n", timeout=self.seconds(60))
        if not heard.match.group(1):
            raise Failure(f"the setup fails: {heard.match.group()}")
        self.console.expect(_MENU, timeout=self.seconds(60))

    def wait_for_login(self) -> None:
        """Waits until the console asks who is there."""
        self.console.expect(_LOGIN, timeout=self.seconds(180))

    def shell(self, command: str) -> str:
        """What a command prints in root's shell on the console; its exit status must be 0."""
        self._enter_shell()
        # The echo of what is typed comes before the first mark, once or twice, and has not what $(( )) stands for.
        self.console.line(f"echo ==$((6*7))==; {command}; echo =$?=")
        self.console.expect(r"^==42==\n", timeout=self.seconds(60))
        heard = self.console.expect(_DONE, timeout=self.seconds(60))
        output = heard.before
        if heard.match.group(1) != "0":
            raise Failure(f"{command}: exit status {heard.match.group(1)}\n{output}")
        return output

    def _enter_shell(self) -> None:
        if not self._at_shell:
            self._to_shell()

    def _to_menu(self) -> None:
        console = self.console
        if self._at_shell:
            console.line("exit")
        else:
            console.drain()
            console.line()
            heard = console.expect(_LOGIN, _MENU, r"^[^\n]*: $", timeout=self.seconds(60))
            if heard.index == 1:
                return
            if heard.index == 0:
                self._sign_in()
        console.expect(_MENU, timeout=self.seconds(60))
        self._at_shell = False

    def menu(self, entry: str, *answers: tuple[str, str], until: str, leave: str = "") -> None:
        """An entry of the menu: its questions' answers, what it is to show, what is typed to leave it."""
        self._to_menu()
        self.console.line(entry)
        for question, answer in answers:
            self.console.expect(question, timeout=self.seconds(60))
            self.console.line(answer)
        self.console.expect(until, timeout=self.seconds(120))
        self.console.send(leave)
        self.console.expect(_MENU, timeout=self.seconds(60))

    def log_in_on_console(self) -> Login:
        """Logs out, and in again."""
        self._to_menu()
        self.console.line("0")
        banner = self.console.expect(_LOGIN, timeout=self.seconds(60)).before
        self._sign_in()
        return Login(banner, self.console.expect(_MENU, timeout=self.seconds(60)).before)

    def _sign_in(self) -> None:
        self.console.line("root")
        self.console.expect(r"[Pp]assword: ?$", timeout=self.seconds(30))
        self.console.line(ROOT_PASSWORD)

    def _to_shell(self) -> None:
        self._to_menu()
        self.console.line("8")
        self.console.expect(r"^[^\n]*[#$] ?$", timeout=self.seconds(30))
        self.console.line("stty columns 500; unset EDITOR; PS1=; echo =$?=")
        self.console.expect(_DONE, timeout=self.seconds(30))
        self._at_shell = True

    def factory_reset(self) -> None:
        """Resets to factory by the menu's entry, and waits for the first boot's dialogue."""
        self._to_menu()
        self.console.line("4")
        questions = [
            Question(r"^Type RESET[^\n]*: $", ["RESET"]),
            Question(_PROMPT, ["n"]),  # whether to show the configuration first
        ]
        self.console.answer(questions, until=_GOES_DOWN, timeout=self.seconds(90))
        self._at_shell = False
        self.first_question()

    def install_to(self, disk: str) -> None:
        """Leaves the first boot's dialogue, and installs to another disk by the menu's entry; the machine reboots."""
        self.first_question()
        console = self.console
        console.send("\x03")
        console.expect(_MENU, timeout=self.seconds(30))
        console.line("14")
        console.expect(r"^Install to which disk: $", timeout=self.seconds(30))
        console.line("nosuch9")
        console.expect(r"^Install to which disk: $", timeout=self.seconds(30))
        console.line(disk)
        console.expect(r"will be destroyed\. Continue\? \[y/N\]: $", timeout=self.seconds(30))
        console.line("y")
        heard = console.expect(rf"{disk} holds the appliance\.[^\n]*\n", r"^\[ERROR\][^\n]*\n", timeout=self.seconds(300))
        if heard.index == 1:
            raise Failure(heard.match.group().strip())
        console.expect(r"^Enter reboots[^\n]*: $", timeout=self.seconds(30))
        console.line()
        console.expect(_GOES_DOWN, timeout=self.seconds(90))

    def memory(self) -> Memory:
        """The memory in use."""
        values = self.shell("sysctl -n hw.physmem hw.pagesize vm.stats.vm.v_free_count vm.stats.vm.v_inactive_count "
                            "vm.stats.vm.v_laundry_count").split()
        total, page, *free = (int(value) for value in values)
        programs: dict[str, float] = {}
        for line in self.shell("ps -axo rss,comm").splitlines():
            if found := re.match(r"\s*(\d+) (\S+)$", line):
                programs[found.group(2)] = programs.get(found.group(2), 0) + int(found.group(1)) / 1024
        largest = sorted(programs.items(), key=lambda entry: -entry[1])
        return Memory(total / 2**20, (total - sum(free) * page) / 2**20, largest)

    # SSH, at the forwarded port.

    def ssh_banner(self) -> str:
        """The first line that the appliance's SSH port says; empty when nothing listens there."""
        with contextlib.suppress(OSError), \
                socket.create_connection(("127.0.0.1", self._ssh_port), timeout=self.seconds(10)) as line:
            return line.makefile("rb").readline(256).decode("ascii", "replace").strip()
        return ""

    def ssh_methods(self) -> set[str]:
        """The ways to authenticate that sshd offers root."""
        done = self._ssh("PreferredAuthentications=none", "true")
        offered = re.search(r"Permission denied \(([a-z,-]+)\)", done.stderr)
        if not offered:
            raise Failure(f"ssh says neither who may enter nor how: {done.stderr}")
        return set(offered.group(1).split(","))

    def ssh(self, command: str) -> tuple[str, str]:
        """What a command prints that root runs through SSH, with his password; and what ssh said before (the banner)."""
        done = self._ssh("PubkeyAuthentication=no", command)
        if done.returncode != 0:
            raise Failure(f"ssh {command}: exit status {done.returncode}: {done.stderr}")
        return done.stdout, done.stderr

    def _ssh(self, option: str, command: str) -> subprocess.CompletedProcess:
        client = shutil.which("ssh")
        if client is None:
            raise Failure("no ssh on this host; install openssh-client")
        # The password comes from a program: ssh reads it from a terminal or from there. The host key must stay the same.
        asked = self._directory / "password"
        asked.write_text(f"#!/bin/sh\necho '{ROOT_PASSWORD}'\n")
        asked.chmod(0o700)
        return subprocess.run(
            [client, "-F", "none", "-p", str(self._ssh_port), "-o", "StrictHostKeyChecking=accept-new",
             "-o", f"UserKnownHostsFile={self._directory / 'known_hosts'}", "-o", "IdentityAgent=none",
             "-o", f"ConnectTimeout={self.seconds(20):.0f}", "-o", "NumberOfPasswordPrompts=1", "-o", option,
             "root@127.0.0.1", command],
            env={**os.environ, "SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=self.seconds(60))

    @property
    def _ssh_port(self) -> int:
        if self.machine.ssh_port is None:
            raise Failure("the machine forwards no port to sshd")
        return self.machine.ssh_port

    # The API.

    def log_in(self) -> None:
        """Logs the administrator in."""
        self.api.wait(self.seconds(120))
        self.api.log_in(ADMINISTRATOR, PASSWORD)

    def expect_version(self, version: str) -> None:
        """The appliance runs this version."""
        status = self.api.get("/updates/aifw/status")
        if status["current_version"] != version:
            raise Failure(f"version {status['current_version']} is running, not {version}")

    def upload(self, package: Path, sha256: str | None = None) -> None:
        """Installs an update package from this host; it is booted at the next reboot."""
        fields = {"sha256": sha256 or self._sha256(package), "restart": "false"}
        self.api.upload("/updates/aifw/install-local", package, fields, self.seconds(300))

    def upload_and_cut(self, package: Path, after: float) -> None:
        """Installs an update package, and cuts the power so many seconds after the upload's begin."""
        over = threading.Event()

        def install() -> None:
            with contextlib.suppress(Unanswered, ApiError):
                self.upload(package)
                over.set()

        installing = threading.Thread(target=install)
        installing.start()
        if over.wait(after):
            raise Failure(f"the update was installed in less than {after:.1f} s: the power could not be cut during it")
        self.cut_power()
        installing.join()

    def wait_until_kept(self) -> None:
        """Waits until the version that was booted once has found itself healthy and is booted from now on."""
        deadline = time.monotonic() + self.seconds(180)
        while self.api.get("/updates/aifw/status")["trying"]:
            if time.monotonic() > deadline:
                raise Failure("the new version does not find itself healthy")
            time.sleep(1)
        table = self.shell("gpart show -l")
        if "bootonce" in table or not re.search(r"slot-[ab] +\[bootme\]", table):
            raise Failure(f"the new version's slot is not the one to boot:\n{table}")

    @staticmethod
    def _sha256(package: Path) -> str:
        with package.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
