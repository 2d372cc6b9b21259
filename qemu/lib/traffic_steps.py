"""The steps of qemu/test about packets as pf sees them, and the console's menu that shows them."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from appliance import Appliance, Failure
from machine import API_PORT, APPLIANCE, BLOCKED_PORT, HOST_ON_LAN


class TrafficSteps:
    """The steps, in order."""

    def __init__(self, appliance: Appliance):
        self.box = appliance

    def steps(self) -> list[Callable[[], None]]:
        """All of them, in order."""
        return [self.packets, self.menu]

    def knock(self) -> None:
        """A client on the LAN asks for a connection to the blocked port; there is no answer."""
        with contextlib.suppress(OSError), \
                socket.create_connection(("127.0.0.1", self.box.machine.port_to(BLOCKED_PORT)), timeout=5) as line:
            line.settimeout(self.box.seconds(0.5))
            line.recv(1)

    def packets(self) -> None:
        """A packet that a rule blocks is logged through pflog and seen; states and counters are the kernel's."""
        box, api = self.box, self.box.api
        rule = api.post("/rules", {
            "action": "block", "direction": "in", "protocol": "tcp", "interface": box.machine.interface(1), "log": True,
            "dst_port_start": BLOCKED_PORT, "dst_port_end": BLOCKED_PORT, "label": "qemu-blocked", "priority": 1,
        })["data"]["id"]
        api.post("/reload")
        before = api.get("/status")
        self.knock()
        box.wait("the blocked packet is shown", self.blocked, lambda: box.shell("pfctl -a aifw -vsr; ifconfig pflog0"))
        self.alike(self.blocked()[0], {"action": "block", "direction": "in", "interface": box.machine.interface(1),
                             "protocol": "tcp", "src_addr": HOST_ON_LAN, "dst_addr": APPLIANCE})
        states = api.get("/connections?limit=10000")["data"]
        ours = [row for row in states if row["dst_port"] == API_PORT and row["src_addr"] == HOST_ON_LAN]
        if not ours:
            raise Failure(f"this connection is not among {states}")
        self.alike(ours[0], {"protocol": "tcp", "dst_addr": APPLIANCE})
        now = api.get("/status")
        if not (now["pf_running"] and now["pf_states"] and now["bytes_in"] > before["bytes_in"] > 0):
            raise Failure(f"the counters stand still: {before}, {now}")
        api.request("DELETE", f"/rules/{rule}")
        api.post("/reload")

    def blocked(self) -> list[dict[str, Any]]:
        """The blocked packets to the blocked port, newest first."""
        return [row for row in self.box.api.get("/blocked")["data"] if row["dst_port"] == BLOCKED_PORT]

    @staticmethod
    def alike(row: dict[str, Any], wanted: dict[str, Any]) -> None:
        """A row has these values."""
        if {name: row.get(name) for name in wanted} != wanted:
            raise Failure(f"{row} is not {wanted}")

    def menu(self) -> None:
        """The menu's entries that ask FreeBSD: ping, states, the log, restarting services, passwords, updates."""
        box = self.box
        box.menu("7", ("Host name or address: ", "127.0.0.1"), until=r"4 packets transmitted, 4 packets received")
        box.menu("9", until=rf"states; the largest:(?s:.)*{APPLIANCE}", leave="q")
        box.menu("10", until=rf"{APPLIANCE}\S*{BLOCKED_PORT}", leave="\x03")
        box.menu("11", (r"\[Y/n\]: ", ""), until=r"\[OK\] packet filter: (?s:.)*\[OK\] rDNS: (?s:.)*\[OK\] TrafficCop: ")
        box.menu("3", (r"Choice \[1\]: ", "1"), (r"New password for root: ", box.root_password),
                 (r"The same once more: ", box.root_password), until=r"\[OK\] ")
        box.log_in_on_console()
        # This machine reaches no release server: a line says so, and the menu is there again.
        box.menu("12", until=r"\[ERROR\] [^\n]+\n")
        box.api.wait(box.seconds(60))
