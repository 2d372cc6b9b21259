"""Tests of the virtual machine: its command line, and a machine with a boot sector in the place of the appliance."""

import re
import shutil
import socket
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import machine  # noqa: E402
from console import HungUp  # noqa: E402
from machine import Acceleration, Card, Firmware, Machine, MachineError  # noqa: E402
from running import Running  # noqa: E402

# Prints "login: " on the serial line, echoes what is typed, and powers off at Enter.
BOOT_SECTOR = bytes.fromhex(
    "31c0 8ed8 be2d7c"  # xor ax,ax; mov ds,ax; mov si,text
    "ac 84c0 7406 baf803 ee ebf5"  # next: lodsb; test al,al; jz read; mov dx,0x3f8; out dx,al; jmp next
    "bafd03 ec a801 74f8"  # read: mov dx,0x3fd; in al,dx; test al,1; jz read
    "baf803 ec ee 3c0d 75ef"  # mov dx,0x3f8; in al,dx; out dx,al; cmp al,'\r'; jne read
    "ba0406 b80020 ef f4 ebfd"  # mov dx,0x604; mov ax,0x2000; out dx,ax; hlt; jmp to the hlt
) + b"login: \0"

SOON = 60.0


def a_machine(**options) -> Machine:
    """A machine by BIOS, whose accelerator works everywhere."""
    values = {"qemu": "qemu-system-x86_64", "acceleration": Acceleration("tcg", "max"), "disk": Path("/disk.img"),
              "firmware": Firmware.BIOS}
    return Machine(**{**values, **options})


class CommandLine(unittest.TestCase):
    """What QEMU is told."""

    def test_the_first_card_is_the_wan_and_the_ports_are_forwarded_on_the_lan(self):
        command = a_machine(api_port=8443, ssh_port=2222).command([])
        networks = [value for option, value in zip(command, command[1:]) if option == "-netdev"]
        self.assertEqual(networks, [
            "user,id=wan,ipv6-net=2001:db8:a1f0::/64",
            "user,id=lan,net=192.168.1.0/24,host=192.168.1.254,restrict=on,ipv6=off,"
            "hostfwd=tcp:127.0.0.1:8443-192.168.1.1:8080,hostfwd=tcp:127.0.0.1:2222-192.168.1.1:22"])
        cards = [value for value in command if "netdev=" in value]
        self.assertEqual(cards, ["virtio-net-pci,netdev=wan,mac=52:54:00:a1:f0:01",
                                 "virtio-net-pci,netdev=lan,mac=52:54:00:a1:f0:02"])

    def test_a_snapshot_and_the_format_are_the_disks(self):
        command = a_machine(snapshot=True, disk_format="qcow2", disk=Path("/a,b")).command([])
        self.assertIn("if=none,id=disk,discard=unmap,format=qcow2,file=/a,,b,snapshot=on", command)

    def test_cards_have_the_names_that_freebsd_gives_them(self):
        self.assertEqual(a_machine(cards=Card.E1000).interface(1), "em1")
        self.assertEqual(a_machine().interface(0), "vtnet0")

    def test_a_port_that_is_taken_is_not_given(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.assertNotEqual(machine.free_port(port), port)
            self.assertGreater(machine.free_port(port), 0)

    def test_sizes(self):
        self.assertEqual(machine.parse_size("8G"), "8G")
        for bad in ("8", "0G", "8g", "-1G", "8GB", ""):
            with self.assertRaises(MachineError):
                machine.parse_size(bad)


@unittest.skipUnless(shutil.which("qemu-system-x86_64") and shutil.which("qemu-img"), "QEMU is not installed")
class BootSector(unittest.TestCase):
    """A machine that runs, without FreeBSD."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="aifw-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.image = self.directory / "image"
        self.image.write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
        self.log = self.directory / "console.log"

    def run_it(self, **options) -> Running:
        return Running(a_machine(disk=self.image, **options), self.directory, self.log)

    def test_it_boots_listens_and_powers_off(self):
        with self.run_it() as running:
            running.console.expect("login: $", timeout=SOON)
            running.console.send("root")
            running.console.expect("root", timeout=SOON)
            running.console.line()
            running.wait_off(SOON)
        self.assertTrue(self.log.read_bytes().endswith(b"login: root\r"))

    def test_the_power_is_cut(self):
        with self.run_it() as running:
            running.console.expect("login: $", timeout=SOON)
            running.cut_power()
            with self.assertRaises(HungUp):
                running.console.expect("more", timeout=SOON)

    def test_a_new_disk_begins_as_the_image_and_belongs_to_it_until_that_changes(self):
        disk = self.directory / "disk.qcow2"
        self.assertFalse(machine.belongs(disk, self.image))
        machine.new_disk(machine.find_qemu_img(), self.image, disk, "64M")
        self.assertTrue(machine.belongs(disk, self.image))
        with Running(a_machine(disk=disk, disk_format="qcow2"), self.directory, self.log) as running:
            running.console.expect("login: $", timeout=SOON)
        self.image.write_bytes(self.image.read_bytes() + b"\0")
        self.assertFalse(machine.belongs(disk, self.image))

    def test_a_raw_disk_begins_as_the_image_and_is_larger(self):
        disk = self.directory / "disk.img"
        machine.new_raw_disk(self.image, disk, 1)
        self.assertEqual(disk.stat().st_size, 1 << 30)
        with disk.open("rb") as file:
            self.assertEqual(file.read(self.image.stat().st_size), self.image.read_bytes())
        with Running(a_machine(disk=disk), self.directory, self.log) as running:
            running.console.expect("login: $", timeout=SOON)

    def test_what_qemu_complains_about_is_told(self):
        complains = self.directory / "complains"
        complains.write_text("#!/bin/sh\necho no machine of that name >&2\nexit 1\n")
        complains.chmod(0o755)
        with self.assertRaisesRegex(MachineError, "QEMU does not start: no machine of that name"):
            with self.run_it(qemu=str(complains)):
                self.fail("it has started")

    def test_an_accelerator_is_found(self):
        found = machine.find_acceleration(machine.find_qemu())
        self.assertTrue(re.fullmatch("kvm|hvf|tcg", found.name))


if __name__ == "__main__":
    unittest.main()
