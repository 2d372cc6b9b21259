"""The steps of qemu/test about the machine itself: interfaces, VLANs, routes, names, console, SSH, pf's limits.

They show on FreeBSD what the firmware's own tests show on its simulated machine (contract/network.md and
contract/system.md, "Behaviours to show"): what the API says is compared with what FreeBSD's own tools print.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from api import ApiError, Unanswered
from appliance import Appliance, Failure
from machine import APPLIANCE, HOST_ON_LAN, HOST_ON_WAN, SSH_PORT, WAN_IPV6

# What the steps give the appliance, for `lasts` to find again after a boot.
HOST, DOMAIN, ZONE = "fw1", "home.lan", "Europe/Berlin"
BANNER, MOTD = "Authorised use only", "Welcome to fw1"
DESCRIPTION = "office"
LAN_IPV6 = "fd00:4711::1"
FAR_IPV6, FAR_IPV6_GATEWAY = "2001:db8:5::/48", "fd00:4711::2"
MTU = 1400
VLAN_MTU = 1300
VLAN_ADDRESS = "10.100.0.1"
STATES = 250_000
NEW_SSH_PORT = 2222
# A setting of somebody else in loader.conf(5), which no write of ours may touch.
FOREIGN_LINE = 'kern.coredump="0"'
LOADER_CONF = "/data/aifw/loader.conf"


def expect(true: object, what: str) -> None:
    """A fact that must hold; `what` says which one does not."""
    if not true:
        raise Failure(what)


def refused(ask: Callable[[], Any], status: int, word: str) -> None:
    """The API refuses with this status, and its reason has this word in it."""
    try:
        answer = ask()
    except ApiError as error:
        expect(error.status == status and word in str(error), f"expected {status} and {word!r}: {error}")
    else:
        raise Failure(f"expected {status} and {word!r}: {answer}")


class MachineSteps:
    """The steps, in order. Each leaves the administrator logged in, at the addresses of the first boot."""

    def __init__(self, appliance: Appliance):
        self.box = appliance
        self.wan = appliance.machine.interface(0)
        self.lan = appliance.machine.interface(1)
        self.certificate = ""

    def steps(self) -> list[Callable[[], None]]:
        """All of them, in order."""
        return [self.interfaces, self.vlans, self.routes, self.undo, self.names, self.loader_console, self.ssh,
                self.pf_limits, self.own_certificate]

    # What FreeBSD says.

    def ifconfig(self, name: str) -> str:
        """ifconfig(8) of an interface; empty when there is none."""
        return self.box.shell(f"ifconfig {name} 2>/dev/null || true")

    def has(self, name: str, *patterns: str) -> None:
        """Each pattern is on a line of ifconfig's output for the interface."""
        shown = self.ifconfig(name)
        for pattern in patterns:
            expect(re.search(pattern, shown, re.MULTILINE), f"ifconfig {name} has no {pattern!r}:\n{shown}")

    def kernel_routes(self, family: str = "inet", fib: int = 0) -> dict[str, str]:
        """Destination and gateway of netstat(1)'s routing table."""
        # netstat takes `-F 0` for a mistake on some machines: strtol(3) leaves errno as it was.
        table = f"-F {fib}" if fib else ""
        said = json.loads(self.box.shell(f"netstat -rn -f {family} {table} --libxo json"))
        families = said["statistics"]["route-information"]["route-table"]["rt-family"]
        return {entry["destination"]: entry["gateway"] for table in families for entry in table["rt-entry"]}

    def api_routes(self, query: str = "") -> dict[str, str]:
        """Destination and gateway of the API's kernel table."""
        rows = self.box.api.get(f"/routes/system{query}")["data"]
        return {row["destination"]: row["gateway"] for row in rows}

    def detail(self, name: str) -> dict[str, Any]:
        """The API's detailed view of an interface."""
        rows = self.box.api.get("/interfaces/detailed")["data"]
        return next(row for row in rows if row["name"] == name)

    def configure(self, name: str, **settings: Any) -> str:
        """PUT of an interface's configuration; the answer's message."""
        return self.box.api.put(f"/interfaces/config/{name}", settings)["message"]

    # The steps.

    def interfaces(self) -> None:
        """Interfaces are listed, refused what is wrong, and set: address, MTU, description, IPv6, from routers too."""
        api = self.box.api
        listed = {row["name"] for row in api.get("/interfaces")["data"]}
        expect(listed == {self.wan, self.lan}, f"GET /interfaces lists {listed}")
        expect("lo0" in {row["name"] for row in api.get("/interfaces/detailed")["data"]}, "lo0 is not detailed")
        lan = self.detail(self.lan)
        expect(lan["ipv4_netmask"] == "0xffffff00", f"the netmask of a /24 is {lan['ipv4_netmask']}")
        expect(api.get(f"/interfaces/{self.wan}/stats")["data"]["bytes_in"] > 0, "no byte came in by the WAN")
        before = self.ifconfig(self.lan)
        for settings, field in [
            ({"ipv4_mode": "static"}, "ipv4_address"), ({"ipv4_mode": "static", "ipv4_address": APPLIANCE}, "ipv4_address"),
            ({"mtu": 67}, "mtu"), ({"mtu": 9001}, "mtu"), ({"ipv4_mode": "pppoe"}, "ipv4_mode"),
        ]:
            refused(lambda settings=settings: self.configure(self.lan, **settings), 400, field)
        refused(lambda: self.configure("em0;reboot", mtu=1500), 400, "name")
        expect(self.ifconfig(self.lan) == before, "a refused change has changed the interface")
        said = self.configure(self.lan, ipv4_mode="static", ipv4_address=f"{APPLIANCE}/24", gateway=HOST_ON_LAN, mtu=MTU,
                              description=DESCRIPTION, ipv6_address=f"{LAN_IPV6}/64", enabled=True)
        expect("default route stays" in said, f"the answer does not say that the default route stays: {said}")
        self.lan_is_set()
        self.configure(self.wan, ipv6_mode="slaac")
        self.box.wait("an IPv6 address from the WAN's router", lambda: self.detail(self.wan)["ipv6"])
        self.has(self.wan, rf"inet6 {WAN_IPV6.split('::')[0]}:\S+ prefixlen 64 .*autoconf")
        refused(lambda: self.configure(self.wan, ipv6_mode="dhcp"), 400, "DHCPv6")
        api.put(f"/interfaces/{self.lan}/role", {"role": "dmz"})
        expect([self.lan, "DMZ"] in self.roles() or [self.lan, "dmz"] in self.roles(), f"roles: {self.roles()}")
        api.put(f"/interfaces/{self.lan}/role", {"role": "lan"})
        expect([self.lan, "LAN"] in self.roles(), f"roles: {self.roles()}")

    def roles(self) -> list[list[str]]:
        """The interfaces' roles."""
        return self.box.api.get("/interfaces/roles")["data"]

    def lan_is_set(self) -> None:
        """The LAN is what `interfaces` has made of it, and the default route is the WAN's."""
        self.has(self.lan, rf"mtu {MTU}", rf"description: {DESCRIPTION}$", rf"inet6 {LAN_IPV6} prefixlen 64",
                 rf"inet {APPLIANCE} netmask 0xffffff00")
        shown = self.ifconfig(self.lan)
        expect(len(re.findall(r"^\s+inet ", shown, re.MULTILINE)) == 1, f"not exactly one IPv4 address:\n{shown}")
        expect(self.kernel_routes().get("default") == HOST_ON_WAN, f"routes: {self.kernel_routes()}")

    def vlans(self) -> None:
        """VLANs reach the kernel with the reload; two on one parent, one number on two; others' are left alone."""
        api = self.box.api
        for number, parent, word in [(0, self.lan, "vlan_id"), (4095, self.lan, "vlan_id"), (5, "nosuch0", "parent")]:
            body = {"vlan_id": number, "parent": parent}
            refused(lambda body=body: api.post("/vlans", body), 400, word)
        self.box.shell(f"ifconfig vlan77 create vlan 77 vlandev {self.lan}")
        api.post("/vlans", {"vlan_id": 100, "parent": self.lan, "ipv4_mode": "static", "mtu": VLAN_MTU,
                            "ipv4_address": f"{VLAN_ADDRESS}/24"})
        api.post("/vlans", {"vlan_id": 200, "parent": self.lan, "mtu": VLAN_MTU})
        twin = api.post("/vlans", {"vlan_id": 100, "parent": self.wan})["data"]
        expect(twin["device"] == f"{self.wan}.100", f"the second VLAN 100 is {twin['device']}")
        gone = api.post("/vlans", {"vlan_id": 300, "parent": self.lan, "mtu": VLAN_MTU})["data"]
        expect(api.get("/pending")["firewall"], "a new VLAN is not pending")
        expect(not self.ifconfig("vlan100"), "the kernel has vlan100 before the reload")
        api.post("/reload")
        self.vlans_are_set()
        self.has("vlan300", "vlan: 300")
        api.request("DELETE", f"/vlans/{gone['id']}")
        expect(self.ifconfig("vlan300"), "vlan300 is gone before the reload")
        api.post("/reload")
        expect(not self.ifconfig("vlan300"), "vlan300 is there after the reload")
        refused(lambda: api.request("DELETE", f"/vlans/{gone['id']}"), 404, "")
        self.has("vlan77", "vlan: 77")
        self.box.shell("ifconfig vlan77 destroy")

    def vlans_are_set(self) -> None:
        """The VLANs of `vlans` are in the kernel."""
        self.has("vlan100", rf"inet {VLAN_ADDRESS} ", rf"vlan: 100 .*parent interface: {self.lan}$", f"mtu {VLAN_MTU}")
        self.has("vlan200", rf"vlan: 200 .*parent interface: {self.lan}$")
        self.has(f"{self.wan}.100", rf"vlan: 100 .*parent interface: {self.wan}$")

    def routes(self) -> None:
        """Routes are in the kernel at once: in their own table, by metric, of IPv6, until they are switched off."""
        api = self.box.api
        for body in [{"destination": "not-an-ip", "gateway": HOST_ON_LAN}, {"destination": "10.0.0.0/8", "gateway": "x"}]:
            refused(lambda body=body: api.post("/routes", body), 400, "expected")
        near = api.post("/routes", {"destination": "10.8.0.0/13", "gateway": HOST_ON_LAN, "metric": 5})["data"]
        far = api.post("/routes", {"destination": "10.8.0.0/13", "gateway": "192.168.1.253", "metric": 100})["data"]
        expect(near["installed"] and not far["installed"], f"installed: {near}, {far}")
        api.post("/routes", {"destination": "172.30.0.0/16", "gateway": HOST_ON_LAN, "fib": 1, "interface": self.lan})
        api.post("/routes", {"destination": FAR_IPV6, "gateway": FAR_IPV6_GATEWAY})
        unreachable = api.post("/routes", {"destination": "172.29.0.0/16", "gateway": "9.9.9.9"})
        taken = self.kernel_routes().get("172.29.0.0/16") == "9.9.9.9"
        expect(unreachable["data"]["installed"] == taken and ("warning" in unreachable) != taken,
               f"the kernel has {'' if taken else 'not '}taken the route: {unreachable}")
        api.request("DELETE", f"/routes/{unreachable['data']['id']}")
        self.routes_are_set()
        api.put(f"/routes/{near['id']}", {**near, "enabled": False})
        expect(self.kernel_routes()["10.8.0.0/13"] == "192.168.1.253", f"the next one does not take over: {self.kernel_routes()}")
        api.put(f"/routes/{far['id']}", {**far, "enabled": False})
        expect("10.8.0.0/13" not in self.kernel_routes(), "a disabled route is in the kernel")
        api.put(f"/routes/{near['id']}", {**near, "enabled": True})
        self.routes_are_set()

    def routes_are_set(self) -> None:
        """The routes of `routes` are in the kernel, and in no table but their own."""
        for table in (self.kernel_routes(), self.api_routes()):
            expect(table.get("10.8.0.0/13") == HOST_ON_LAN and "172.30.0.0/16" not in table, f"FIB 0: {table}")
        for table in (self.kernel_routes(fib=1), self.api_routes("?fib=1")):
            expect(table.get("172.30.0.0/16") == HOST_ON_LAN, f"FIB 1: {table}")
        for table in (self.kernel_routes("inet6"), self.api_routes("?family=inet6")):
            expect(table.get(FAR_IPV6) == FAR_IPV6_GATEWAY, f"IPv6: {table}")

    def undo(self) -> None:
        """A change that cuts the caller off wants a confirmation; without one it is undone by itself."""
        api = self.box.api
        away = {"ipv4_mode": "static", "ipv4_address": "192.168.77.1/24"}
        refused(lambda: self.configure(self.lan, **away), 409, "confirm")
        self.lan_is_set()
        window = 60
        began = time.monotonic()
        # The answer has no way back any more, so it is not waited for as long as others.
        with contextlib.suppress(Unanswered):
            body = {**away, "commit_confirm": True, "confirm_timeout": window}
            api.request("PUT", f"/interfaces/config/{self.lan}", body, timeout=10)
        self.box.wait("the LAN's new address", lambda: "inet 192.168.77.1 " in self.ifconfig(self.lan))
        expect(not api.answers(), "the API answers at the address that is gone")
        api.wait(window + self.box.seconds(30))
        expect(time.monotonic() - began >= window, "the change was undone before its time")
        self.lan_is_set()
        self.vlans_are_set()
        self.routes_are_set()
        expect(not api.get("/config/commit-confirm/status")["active"], "the window is still open")

    def names(self) -> None:
        """Name, domain and time zone are in force at once; the machine tells what it is."""
        api = self.box.api
        refused(lambda: api.put("/system/general", {"hostname": "-bad", "domain": "", "timezone": "UTC"}), 400, "hostname")
        refused(lambda: api.put("/system/general", {"hostname": HOST, "domain": "", "timezone": "../../etc/passwd"}), 400, "timezone")
        refused(lambda: api.put("/system/banner", {"login_banner": "x" * 8193, "motd": ""}), 400, "login_banner")
        answer = api.put("/system/general", {"hostname": HOST, "domain": DOMAIN, "timezone": ZONE})
        expect(answer["ok"] and not answer.get("warning"), f"{answer}")
        api.put("/system/banner", {"login_banner": BANNER, "motd": MOTD})
        self.names_are_set()
        shown = self.box.log_in_on_console()
        expect(BANNER in shown.banner, f"the console's login prompt has no banner:\n{shown.banner}")
        expect(MOTD in shown.greeting, f"who logs in is not greeted:\n{shown.greeting}")
        info = api.get("/system/info")
        expect(info["hostname"] == HOST and info["domain"] == DOMAIN, f"{info}")
        expect(info["cpu_count"] == self.box.machine.processors and len(info["load_avg"]) == 3, f"{info}")
        physical = int(self.box.shell("sysctl -n hw.physmem"))
        expect(info["mem_total_bytes"] == physical and 0 < info["mem_used_bytes"] < physical, f"{info}")
        expect(info["os_version"].startswith("FreeBSD 15.1") and 0 < info["uptime_secs"] < 86400, f"{info}")
        zones = api.get("/system/timezones")
        expect(zones == sorted(zones) and "UTC" in zones and ZONE in zones and "zone.tab" not in zones, f"{zones[:9]}")

    def names_are_set(self) -> None:
        """FreeBSD's own tools know the names of `names`."""
        said = self.box.shell("hostname").strip()
        expect(said == f"{HOST}.{DOMAIN}", f"hostname says {said}")
        offset = datetime.now(ZoneInfo(ZONE)).strftime("%z")
        said = self.box.shell("date +%z").strip()
        expect(said == offset, f"date says {said}, not {offset}, in {ZONE}")

    def loader_console(self) -> None:
        """The console's settings are one block of loader.conf, which leaves others' lines alone."""
        api = self.box.api
        refused(lambda: api.put("/system/console", {"kind": "dual", "baud": 4242}), 400, "baud")
        refused(lambda: api.put("/system/console", {"kind": "braille", "baud": 9600}), 400, "kind")
        self.box.shell(f"echo '{FOREIGN_LINE}' >> {LOADER_CONF}")
        for kind in ("serial", "dual", "dual"):
            answer = api.put("/system/console", {"kind": kind, "baud": 115200})
            expect(answer["requires_reboot"], f"{answer}")
        self.loader_console_is_set()

    def loader_console_is_set(self) -> None:
        """One block of ours in loader.conf, for both consoles, and the other's line."""
        text = self.box.shell(f"cat {LOADER_CONF}")
        video = "efi" if self.box.shell("sysctl -n machdep.bootmethod").strip() == "UEFI" else "vidconsole"
        for line in ("# BEGIN AiFw console", f'console="comconsole,{video}"', 'boot_multicons="YES"', FOREIGN_LINE):
            expect(text.splitlines().count(line) == 1, f"not one line {line!r} in {LOADER_CONF}:\n{text}")

    def ssh(self) -> None:
        """sshd listens where it is told to, on one port only, and offers what it is told to."""
        api = self.box.api
        settings = {"enabled": True, "port": SSH_PORT, "password_auth": True, "permit_root_login": True, "force": True}
        refused(lambda: api.put("/system/ssh", {**settings, "port": 0}), 400, "port")
        answer = api.put("/system/ssh", settings)
        expect(not answer.get("warning"), f"{answer}")
        said = self.box.ssh_banner()
        expect(said.startswith("SSH-2.0-"), f"port {SSH_PORT} says {said!r}")
        expect("password" in self.box.ssh_methods() or "keyboard-interactive" in self.box.ssh_methods(),
               f"sshd offers {self.box.ssh_methods()}")
        said, banner = self.box.ssh("uname")
        expect(said.strip() == "FreeBSD" and BANNER in banner, f"ssh uname says {said!r} and {banner!r}")
        answer = api.put("/system/ssh", {**settings, "password_auth": False})
        expect(self.box.ssh_methods() == {"publickey"}, f"without passwords, sshd offers {self.box.ssh_methods()}")
        answer = api.put("/system/ssh", {**settings, "port": NEW_SSH_PORT})
        expect(answer.get("requires_service_restart") == "sshd", f"{answer}")
        self.ssh_is_set()
        expect(not self.box.ssh_banner(), f"port {SSH_PORT} still answers")

    def ssh_is_set(self) -> None:
        """sshd listens on its new port, and on no other."""
        said = self.box.shell("sockstat -lP tcp | awk '/sshd/ { print $6 }' | sort -u").split()
        ports = {address.rsplit(":", 1)[1] for address in said}
        expect(ports == {str(NEW_SSH_PORT)}, f"sshd listens on {said}")
        said = self.box.shell("sshd -T -f /etc/ssh/sshd_config | egrep -i '^(port|passwordauthentication|permitrootlogin) ' | sort")
        expect(said.split() == ["passwordauthentication", "yes", "permitrootlogin", "yes", "port", str(NEW_SSH_PORT)],
               f"sshd -T says {said}")

    def pf_limits(self) -> None:
        """pf's limits are set on the live filter without touching its rules, and survive a reload of them."""
        api = self.box.api
        for wrong in (999, 4_000_001):
            refused(lambda wrong=wrong: api.put("/settings/pf-tuning", {"max_states": wrong}), 400, "max_states")
        rules = self.box.shell("pfctl -sr")
        answer = api.put("/settings/pf-tuning", {"max_states": STATES})
        expect(answer["live_max_states"] == STATES and not answer.get("warning"), f"{answer}")
        self.pf_limits_are_set()
        expect(self.box.shell("pfctl -sr") == rules, "the main ruleset has changed")
        api.post("/reload")
        self.pf_limits_are_set()

    def pf_limits_are_set(self) -> None:
        """pf itself names the limit."""
        said = self.box.shell("pfctl -sm")
        expect(re.search(rf"^states +hard limit +{STATES}$", said, re.MULTILINE), f"pfctl -sm says\n{said}")

    def own_certificate(self) -> None:
        """A certificate that an administrator brings is shown from the next handshake on, and lasts."""
        api = self.box.api
        place = "/usr/local/etc/aifw/tls/fw1"
        paths = {"cert_path": f"{place}.pem", "key_path": f"{place}.key"}
        refused(lambda: api.put("/settings/tls", paths), 400, "cert_path")
        self.box.shell(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 "
                       f"-subj /CN={HOST}.{DOMAIN} -keyout {place}.key -out {place}.pem 2>/dev/null")
        said = self.box.shell(f"openssl x509 -in {place}.pem -noout -fingerprint -sha256")
        api.put("/settings/tls", paths)
        # The listener follows at once, but the answer to the change need not wait for it.
        self.certificate = said.strip().split("=")[1].replace(":", "").lower()
        api.certificate = None
        self.box.wait("the new certificate", self.shows_certificate)
        view = api.get("/settings/tls")
        expect(view["cert_subject"] == f"CN={HOST}.{DOMAIN}", f"{view}")

    def shows_certificate(self) -> bool:
        """Whether the API shows the certificate of `own_certificate`."""
        self.box.api.certificate = None
        self.box.api.get("/settings/tls")
        return self.box.api.certificate == self.certificate

    def lasts(self) -> None:
        """After a boot, all that was set is in force again."""
        self.lan_is_set()
        self.vlans_are_set()
        self.routes_are_set()
        self.names_are_set()
        self.loader_console_is_set()
        self.ssh_is_set()
        self.pf_limits_are_set()
        self.box.wait("the administrator's certificate", self.shows_certificate)
