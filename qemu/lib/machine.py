"""The virtual machine: which QEMU, firmware and acceleration this host offers, and the command line for it.

qemu/boot runs one in the terminal, qemu/test one after the other with their consoles on a socket. What the machine
is, both take from here: two network cards, of which the first is the WAN (QEMU's user network, with DHCP and the
way to the Internet) and the second the LAN, on which this host is 192.168.1.254 and from which the forwarded ports
reach the appliance at 192.168.1.1. It knows nothing of what runs in the machine.
"""

import enum
import hashlib
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

# The LAN as the first boot proposes it; this host's end of it.
LAN = "192.168.1.0/24"
APPLIANCE = "192.168.1.1"
HOST_ON_LAN = "192.168.1.254"
# This host as seen from the WAN (QEMU's user network), and the network that the WAN's router announces.
HOST_ON_WAN = "10.0.2.2"
WAN_IPV6 = "2001:db8:a1f0::/64"

API_PORT = 8080
SSH_PORT = 22
DNS_PORT = 53
PROXY_PORT = 8081
# Of a service that a rule of the test keeps clients from.
BLOCKED_PORT = 4712

# Where distributions put the UEFI firmware of a PC: code, and the template of its variables.
UEFI_FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),  # Debian, Ubuntu
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),  # Fedora
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),  # Arch
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),  # openSUSE
    ("/opt/homebrew/share/qemu/edk2-x86_64-code.fd", "/opt/homebrew/share/qemu/edk2-i386-vars.fd"),  # macOS
    ("/usr/local/share/qemu/edk2-x86_64-code.fd", "/usr/local/share/qemu/edk2-i386-vars.fd"),  # macOS, FreeBSD
)

# Without AVX: QEMU's emulation (10.0.2 for one) loads 32 bytes where VINSERTI128 has 16 of them, so that programs which
# use it, such as sshd by OpenSSL, die of signal 11 when the 16 bytes are a page's last ones.
EMULATED_PROCESSOR = "Westmere"

# The best first.
ACCELERATORS = ("kvm", "hvf", "tcg")


class MachineError(Exception):
    """The machine cannot be had as asked; the message says what to do."""


class Firmware(enum.Enum):
    """How the machine starts."""

    UEFI = "uefi"
    BIOS = "bios"


class Card(enum.Enum):
    """The model of the network cards, and the name that FreeBSD gives the first one."""

    VIRTIO = ("virtio", "virtio-net-pci", "vtnet")
    E1000 = ("e1000", "e1000", "em")

    def __init__(self, label: str, device: str, driver: str):
        self.label = label
        self.device = device
        self.driver = driver


@dataclass(frozen=True)
class Acceleration:
    """An accelerator of QEMU that works on this host, and the processor to show."""

    name: str
    processor: str

    @property
    def patience(self) -> float:
        """How much longer things take than on the machine itself, roughly: time limits are multiplied by it."""
        return 6.0 if self.name == "tcg" else 1.0


@dataclass(frozen=True)
class Machine:
    """A machine, off. `disk` and `variables` are the files that it writes to."""

    qemu: str
    acceleration: Acceleration
    disk: Path
    disk_format: str = "raw"
    snapshot: bool = False
    second_disk: Path | None = None
    firmware: Firmware = Firmware.UEFI
    variables: Path | None = None
    cards: Card = Card.VIRTIO
    memory_mib: int = 1024
    processors: int = 2
    api_port: int | None = None
    ssh_port: int | None = None
    # Further TCP ports of this host, each with the appliance's that it leads to.
    ports: tuple[tuple[int, int], ...] = ()
    video: bool = False

    def command(self, console: list[str], monitor: Path | None = None) -> list[str]:
        """QEMU's command line; `console` are the arguments that say where the serial line ends."""
        arguments = [
            self.qemu, "-name", "aifw", "-machine", "q35", "-nodefaults", "-no-user-config",
            "-accel", self.acceleration.name, "-cpu", self.acceleration.processor,
            "-smp", str(self.processors), "-m", f"{self.memory_mib}M",
        ]
        if self.firmware is Firmware.UEFI:
            code, _ = uefi_firmware()
            if self.variables is None:
                raise MachineError("a UEFI machine needs a file for the firmware's variables")
            arguments += [
                "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escaped(code)}",
                "-drive", f"if=pflash,unit=1,format=raw,file={_escaped(self.variables)}",
            ]
        arguments += ["-vga", "std"] if self.video else ["-display", "none", "-vga", "none"]
        drive = f"if=none,id=disk,discard=unmap,format={self.disk_format},file={_escaped(self.disk)}"
        if self.snapshot:
            drive += ",snapshot=on"
        arguments += ["-drive", drive, "-device", "virtio-blk-pci,drive=disk,bootindex=0", "-device", "virtio-rng-pci"]
        if self.second_disk:
            arguments += ["-drive", f"if=none,id=second,format=raw,file={_escaped(self.second_disk)}",
                          "-device", "virtio-blk-pci,drive=second,bootindex=1"]
        wan = f"user,id=wan,ipv6-net={WAN_IPV6}"
        for number, (name, network) in enumerate((("wan", wan), ("lan", self._lan())), start=1):
            arguments += [
                "-netdev", network,
                "-device", f"{self.cards.device},netdev={name},mac=52:54:00:a1:f0:{number:02x}",
            ]
        arguments += console
        if monitor:
            arguments += ["-chardev", f"socket,id=monitor,server=on,wait=off,path={_escaped(monitor)}",
                          "-mon", "chardev=monitor,mode=readline"]
        return arguments

    def _lan(self) -> str:
        # restrict: what the appliance sends out on its LAN goes nowhere; only the forwarded ports cross.
        network = f"user,id=lan,net={LAN},host={HOST_ON_LAN},restrict=on,ipv6=off"
        for port, target in ((self.api_port, API_PORT), (self.ssh_port, SSH_PORT), *self.ports):
            if port is not None:
                network += f",hostfwd=tcp:127.0.0.1:{port}-{APPLIANCE}:{target}"
        return network

    def interface(self, number: int) -> str:
        """What FreeBSD calls a network card: 0 the WAN's, 1 the LAN's."""
        return f"{self.cards.driver}{number}"

    def port_to(self, target: int) -> int:
        """This host's port that leads to one of the appliance's."""
        for port, known in self.ports:
            if known == target:
                return port
        raise MachineError(f"no port of this host leads to the appliance's {target}")

    @staticmethod
    def disk_name(number: int) -> str:
        """What FreeBSD calls a disk: 0 the one that boots, 1 the second."""
        return f"vtbd{number}"

    def with_ports(self, api: int, ssh: int | None) -> "Machine":
        """The same machine, with these ports of this host forwarded."""
        return replace(self, api_port=api, ssh_port=ssh)


def _escaped(path: str | Path) -> str:
    """A path inside an argument of QEMU's, where a comma is doubled."""
    return str(path).replace(",", ",,")


def find_qemu() -> str:
    """QEMU for PCs, or an error that names the package."""
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise MachineError("qemu-system-x86_64 is missing; install it (Debian, Ubuntu: qemu-system-x86; Fedora: "
                           "qemu-system-x86-core; macOS, FreeBSD: qemu)")
    return found


def uefi_firmware() -> tuple[Path, Path]:
    """The UEFI firmware's code and the template of its variables, or an error that names the package."""
    for code, variables in UEFI_FIRMWARE:
        if os.path.exists(code) and os.path.exists(variables):
            return Path(code), Path(variables)
    raise MachineError("no UEFI firmware for QEMU on this host; install it (Debian, Ubuntu: ovmf; Fedora: edk2-ovmf; "
                       "FreeBSD: edk2-qemu-x64), or start the machine with --bios")


def find_acceleration(qemu: str, wanted: str | None = None) -> Acceleration:
    """The best accelerator that works here, or the one `wanted`."""
    for name in ACCELERATORS:
        if wanted not in (None, name) or (name == "kvm" and not _has_kvm()):
            continue
        if name == "tcg" or _starts(qemu, name):
            return Acceleration(name, EMULATED_PROCESSOR if name == "tcg" else "max")
    raise MachineError(f"the accelerator {wanted} does not work on this host")


def _has_kvm() -> bool:
    """Whether KVM is there for us, and in hardware.

    Some rented machines lend a KVM without it, in which firmware and loaders come upon instructions that it does not
    know; the processor's flags tell.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as processors:
        return re.search(r"^flags\s*:.*\b(vmx|svm)\b", processors.read(), re.MULTILINE) is not None


def _starts(qemu: str, accelerator: str) -> bool:
    """Whether QEMU starts with the accelerator (a halted machine, which is ended at once)."""
    command = [qemu, "-accel", accelerator, "-cpu", "max", "-machine", "q35", "-nodefaults", "-no-user-config",
               "-display", "none", "-S", "-monitor", "stdio"]
    try:
        return subprocess.run(command, input=b"quit\n", capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 that nothing listens on: the preferred one where it is free."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return listener.getsockname()[1]
    raise MachineError("no TCP port of 127.0.0.1 is free")


def new_disk(qemu_img: str, image: Path, disk: Path, size: str) -> None:
    """Makes a disk of `size` (as qemu-img takes it: 8G) that begins as the image and keeps what is written to it."""
    disk.parent.mkdir(parents=True, exist_ok=True)
    partial = disk.with_name(disk.name + ".part")
    subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.resolve()), str(partial), size],
                   check=True, stdin=subprocess.DEVNULL)
    disk.with_name(disk.name + ".of").write_text(identity(image))
    partial.rename(disk)


def new_raw_disk(image: Path, disk: Path, gigabytes: int) -> None:
    """Makes a raw disk that begins as the image.

    What the machine has written is in the file then, whatever happens to QEMU: a disk whose cache outlives a power
    cut. QEMU keeps a qcow2 file's tables to itself for as long as it likes.
    """
    disk.parent.mkdir(parents=True, exist_ok=True)
    with image.open("rb") as source, disk.open("wb") as target:
        while part := source.read(1 << 20):
            if part.count(0) == len(part):
                target.seek(len(part), os.SEEK_CUR)
            else:
                target.write(part)
        target.truncate(gigabytes << 30)


def belongs(disk: Path, image: Path) -> bool:
    """Whether the disk was made from the image as it now is: one of an older image holds nothing usable."""
    try:
        return disk.exists() and disk.with_name(disk.name + ".of").read_text() == identity(image)
    except FileNotFoundError:
        return False


def identity(image: Path) -> str:
    """Tells one build of the image from another without reading all of it."""
    status = image.stat()
    with image.open("rb") as file:
        head = hashlib.sha256(file.read(1 << 20)).hexdigest()
    return f"{status.st_size} {status.st_mtime_ns} {head}\n"


def find_qemu_img() -> str:
    """qemu-img, or an error that names the package."""
    found = shutil.which("qemu-img")
    if found is None:
        raise MachineError("qemu-img is missing; install it (Debian, Ubuntu: qemu-utils; others: with QEMU)")
    return found


def parse_size(text: str) -> str:
    """A disk's size as qemu-img takes it, such as 8G."""
    if not re.fullmatch(r"[1-9][0-9]{0,5}[MGT]", text):
        raise MachineError(f"a disk's size is a number with M, G or T, such as 8G, not {text!r}")
    return text
