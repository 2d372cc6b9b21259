"""The steps of qemu/test about the daemons: each runs on FreeBSD, answers a client, and comes back when it is killed.

What they do in full is shown by the firmware's own tests with the real daemons on the build host; here it is that they
run in the image, as the children of the firmware, and that the packet filter lets their clients in.
"""

import contextlib
import http.client
import os
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

from appliance import Appliance, Failure
from machine import DNS_PORT, PROXY_PORT

NAME, ADDRESS = "nas.lan.test", "192.168.1.20"
# The daemons by what the API calls them; Suricata is in no image that --packages did not give it.
DAEMONS = ("rdns", "rdhcpd", "rtime", "trafficcop")


def ask_dns(port: int, name: str, timeout: float) -> str | None:
    """The first IPv4 address of a name, asked over TCP (RFC 1035, RFC 7766); None if there is none or no answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = os.urandom(2) + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    with contextlib.suppress(OSError, struct.error, IndexError), socket.create_connection(("127.0.0.1", port), timeout) as line:
        line.sendall(struct.pack(">H", len(question)) + question)
        stream = line.makefile("rb")
        answer = stream.read(struct.unpack(">H", stream.read(2))[0])
        # The answer's first record follows the question; its name is a pointer (RFC 1035, 4.1.4) or spelled out.
        record = answer[len(question):]
        record = record[2 if record[0] >= 0xC0 else len(labels) + 1:]
        kind, _, _, length = struct.unpack(">HHIH", record[:10])
        if answer[:2] == question[:2] and struct.unpack(">H", answer[6:8])[0] and (kind, length) == (1, 4):
            return socket.inet_ntoa(record[10:14])
    return None


class ServiceSteps:
    """The steps, in order."""

    def __init__(self, appliance: Appliance):
        self.box = appliance

    def steps(self) -> list[Callable[[], None]]:
        """All of them, in order."""
        return [self.services, self.daemons_come_back]

    def state(self, name: str) -> dict[str, Any]:
        """What the API says of a daemon."""
        return next(row for row in self.states() if row["name"] == name)

    def states(self) -> list[dict[str, Any]]:
        """What the API says of all daemons."""
        return self.box.api.get("/services")["services"]

    def services(self) -> None:
        """rDNS, rDHCP, rTIME and TrafficCop are configured, run, and answer on the LAN; Suricata is said to be missing."""
        api = self.box.api
        host, _, domain = NAME.partition(".")
        api.post("/dns/resolver/hosts", {"hostname": host, "domain": domain, "record_type": "A", "value": ADDRESS})
        api.put("/dns/resolver/config", {"enabled": True, "dnssec": False})
        api.post("/dns/resolver/apply")
        api.put("/time/config", {"enabled": True})
        api.post("/time/apply")
        api.post("/reverse-proxy/entrypoints", {"name": "web", "address": f":{PROXY_PORT}"})
        api.post("/reverse-proxy/http/services", {
            "name": "self", "service_type": "loadBalancer", "config_json": '{"servers":[{"url":"http://127.0.0.1:1"}]}'})
        api.post("/reverse-proxy/http/routers", {
            "name": "all", "rule": "Host(`fw.test`)", "service": "self", "entry_points": "web"})
        api.put("/reverse-proxy/config", {"enabled": True})
        api.post("/reverse-proxy/apply")
        self.services_run()
        missing = self.state("suricata")
        if missing["state"] not in ("not installed", "stopped"):
            raise Failure(f"Suricata is {missing}")

    def services_run(self) -> None:
        """Each daemon runs and answers."""
        for name in DAEMONS:
            self.box.wait(f"{name} runs", lambda name=name: self.state(name)["state"] == "running",
                          self.states)
        self.box.wait(f"rDNS answers {NAME}", lambda: self.resolve() == ADDRESS, self.states)
        self.box.wait("TrafficCop answers", lambda: self.proxy() is not None, self.states)
        listening = self.box.shell("sockstat -46l | awk '{ print $2, $5, $6 }'")
        for program, port in (("rdhcpd", 67), ("rtime", 123), ("rdns", 53)):
            if not re.search(rf"^{program} udp\S* \S+:{port}$", listening, re.MULTILINE):
                raise Failure(f"{program} does not listen on UDP port {port}:\n{listening}")

    def daemons_come_back(self) -> None:
        """A daemon that is killed is started again, and counted; the API answers meanwhile."""
        for name in DAEMONS:
            before = self.state(name)
            self.box.shell(f"kill -9 {before['pid']}")
            self.box.wait(f"{name} comes back", lambda: self.state(name)["restarts"] == before["restarts"] + 1
                          and self.state(name)["state"] == "running", self.states)
            if self.state(name)["pid"] == before["pid"]:
                raise Failure(f"{name} has not been killed")
        self.services_run()

    def resolve(self) -> str | None:
        """What rDNS answers to a client on the LAN."""
        return ask_dns(self.box.machine.port_to(DNS_PORT), NAME, self.box.seconds(5))

    def proxy(self) -> int | None:
        """The status that TrafficCop answers a client on the LAN with: the server behind it is not there."""
        line = http.client.HTTPConnection("127.0.0.1", self.box.machine.port_to(PROXY_PORT), timeout=self.box.seconds(5))
        with contextlib.suppress(OSError, http.client.HTTPException):
            line.request("GET", "/", headers={"Host": "fw.test"})
            return line.getresponse().status
        return None
