"""The steps of qemu/test about what goes wrong, and what README.md says helps then ("When nothing works")."""

import os
import re
from collections.abc import Callable

from appliance import Appliance, Failure
from service_steps import DAEMONS, ServiceSteps

STORE = "/data/aifw/aifw.redb"


class RecoverySteps:
    """The steps, in order. Each leaves the appliance as it was, with the administrator logged in."""

    def __init__(self, appliance: Appliance, daemons: ServiceSteps, whole: Callable[[], None]):
        """`whole` shows that the appliance is what it was."""
        self.box = appliance
        self.daemons = daemons
        self.whole = whole

    def steps(self) -> list[Callable[[], None]]:
        """All of them, in order."""
        return [self.firmware_killed, self.disk_grows, self.store_spoilt, self.other_slot_by_hand, self.single_user]

    def firmware_killed(self) -> None:
        """The firmware is killed: init starts it again, pf has kept its rules, and no daemon runs twice."""
        box = self.box
        before = box.shell("pfctl -a aifw -sr")
        pid = box.shell("cat /var/run/aifw.pid").strip()
        box.shell(f"kill -9 {pid}; pfctl -s info | grep -q 'Status: Enabled'")
        if box.shell("pfctl -a aifw -sr") != before:
            raise Failure("pf has lost its rules with the firmware")
        box.api.wait(box.seconds(60))
        if box.shell("cat /var/run/aifw.pid").strip() == pid:
            raise Failure("the firmware has not been killed")
        box.log_in()
        self.daemons.services_run()
        running = box.shell("ps -axo comm").split()
        wrong = [name for name in DAEMONS if running.count(name) != 1]
        if wrong:
            raise Failure(f"not exactly one each of {wrong} runs: {running}")
        self.whole()

    def disk_grows(self) -> None:
        """The disk has become larger while the power was off: the data partition grows with it, and loses nothing."""
        box = self.box
        box.power_off()
        larger = box.machine.disk.stat().st_size + (4 << 30)
        os.truncate(box.machine.disk, larger)
        box.power_on()
        box.wait_for_login()
        box.log_in()
        kilobytes = int(box.shell("df -k /data | tail -1").split()[1])
        # Slots and boot partitions take less than 2 GiB, the file system some of the rest.
        if kilobytes < (larger - (2 << 30)) * 0.9 / 1024:
            raise Failure(f"/data has {kilobytes} KiB on a disk of {larger >> 10}")
        self.whole()

    def store_spoilt(self) -> None:
        """A store that cannot be read is said to be an emergency; nothing answers, nothing is overwritten."""
        box = self.box
        # sync(8) does not wait until what it has asked for is done, dd does.
        box.shell(f"dd if={STORE} of={STORE}.saved conv=fsync status=none && "
                  f"dd if=/dev/zero of={STORE} bs=4096 count=8 conv=notrunc,fsync status=none")
        # At once: the running firmware's next commit would mend a part of it.
        box.cut_power()
        box.power_on_into_emergency()
        spoilt = box.shell(f"sha256 -q {STORE}")
        if box.api.answers():
            raise Failure("the API answers in an emergency")
        box.shell(f"test -e {STORE}.saved")
        if box.shell(f"sha256 -q {STORE}") != spoilt:
            raise Failure("the spoilt store is being written to")
        box.shell(f"mv {STORE}.saved {STORE}")
        box.reboot_by_shell()
        box.log_in()
        self.whole()

    def other_slot_by_hand(self) -> None:
        """At the loader's prompt the other version is booted, which is gone back to by that; and forth by a rollback."""
        box = self.box
        box.wait_until_kept()
        version = box.api.get("/updates/aifw/status")["current_version"]
        here = self.slot()
        label, partition = ("slot-b", 4) if here == "slot-a" else ("slot-a", 3)
        box.reboot_to_loader()
        for line in ("unload", f"set currdev=disk0p{partition}:", f"set vfs.root.mountfrom=ufs:/dev/gpt/{label}", "boot"):
            box.loader(line)
        box.wait_for_login()
        for _ in range(2):
            box.log_in()
            if self.slot() != label:
                raise Failure(f"the root is {self.slot()}, not {label}")
            box.wait_until_kept()
            box.reboot()
        box.log_in()
        box.api.post("/updates/aifw/rollback")
        box.reboot()
        box.log_in()
        box.expect_version(version)
        if self.slot() != here:
            raise Failure(f"the root is {self.slot()}, not {here}")
        box.wait_until_kept()
        self.whole()

    def slot(self) -> str:
        """The label of the slot that is the root."""
        found = re.search(r"gpt/(slot-[ab])\s", self.box.shell("mount -p"))
        if not found:
            raise Failure("the root is on no slot")
        return found.group(1)

    def single_user(self) -> None:
        """`boot -s` at the loader's prompt leads to a shell without the firmware, from which the data can be reached."""
        box = self.box
        box.reboot_to_loader()
        said = box.single_user_shell("mount /dev/gpt/data /data; ls /data/aifw; umount /data")
        if "aifw.redb" not in said:
            raise Failure(f"the data partition holds no store:\n{said}")
        box.log_in()
        self.whole()
