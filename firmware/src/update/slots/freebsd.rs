//! The appliance's own disk: gpart(8) for the attributes, the partition's device for the bytes. What gpart prints is
//! read by pure functions.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::{Medium, SlotError, SlotName, Slots};
use crate::tool::Tool;
use crate::update::VERSION_FILE;
use crate::update::gpt::{Attribute, Attributes};

const LIMIT: Duration = Duration::from_secs(30);
/// Where the other slot is looked into.
const MOUNT_POINT: &str = "/tmp/aifw-slot";

/// Slots of the disk that this machine runs from.
#[derive(Debug, Default)]
pub struct GpartSlots;

/// A geom of `gpart list`: a disk with its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geom {
    pub name: String,
    /// gpart says `OK`; `CORRUPT` when a copy of the table is not valid.
    pub ok: bool,
    pub providers: Vec<Provider>,
}

/// A partition of `gpart list`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provider {
    /// Its device below `/dev`: `vtbd0p3`.
    pub name: String,
    pub index: u32,
    pub label: String,
    pub rawuuid: String,
    pub bytes: u64,
    pub attributes: Attributes,
}

/// What `gpart list` prints.
pub fn parse_list(text: &str) -> Vec<Geom> {
    let mut geoms: Vec<Geom> = Vec::new();
    let mut among_providers = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Geom name: ") {
            geoms.push(Geom { name: name.trim().into(), ok: false, providers: Vec::new() });
            among_providers = false;
            continue;
        }
        let Some(geom) = geoms.last_mut() else { continue };
        match line {
            "Providers:" => among_providers = true,
            "Consumers:" => among_providers = false,
            _ => {}
        }
        let Some((key, value)) = line.split_once(": ") else { continue };
        let (key, value) = (key.trim(), value.trim());
        if key == "state" {
            geom.ok = value == "OK";
        }
        if !among_providers {
            continue;
        }
        // `1. Name: vtbd0p1` begins a partition.
        if key.ends_with(". Name") {
            geom.providers.push(Provider { name: value.into(), ..Provider::default() });
            continue;
        }
        let Some(provider) = geom.providers.last_mut() else { continue };
        match (key, value) {
            ("index", _) => provider.index = value.parse().unwrap_or(0),
            ("label", _) => provider.label = value.into(),
            ("rawuuid", _) => provider.rawuuid = value.into(),
            ("length", _) => provider.bytes = value.parse().unwrap_or(0),
            ("attrib", "bootme") => provider.attributes.boot_me = true,
            ("attrib", "bootonce") => provider.attributes.boot_once = true,
            ("attrib", "bootfailed") => provider.attributes.boot_failed = true,
            _ => {}
        }
    }
    geoms
}

/// The device that `mount -p` names for `/`.
pub fn root_device(mounts: &str) -> Option<&str> {
    let mut lines = mounts.lines().map(|line| line.split_whitespace());
    let mut root = lines.find_map(|mut words| {
        let device = words.next()?;
        (words.next() == Some("/")).then_some(device)
    });
    root.take().and_then(|device| device.strip_prefix("/dev/"))
}

/// The disk, and the slot of it that `root` (a name below `/dev`) is.
pub fn find_running(geoms: &[Geom], root: &str) -> Option<(Geom, SlotName)> {
    let is_root = |provider: &Provider| {
        root == provider.name
            || root.strip_prefix("gpt/") == Some(&provider.label)
            || root.strip_prefix("gptid/") == Some(&provider.rawuuid)
    };
    geoms.iter().find_map(|geom| {
        let label = &geom.providers.iter().find(|provider| is_root(provider))?.label;
        let slot = SlotName::BOTH.into_iter().find(|slot| slot.label() == label)?;
        let whole = |slot: SlotName| geom.providers.iter().any(|provider| provider.label == slot.label());
        SlotName::BOTH.into_iter().all(whole).then(|| (geom.clone(), slot))
    })
}

/// gpart(8)'s arguments that set or clear an attribute.
pub fn attribute_arguments(attribute: Attribute, on: bool, index: u32, disk: &str) -> [String; 6] {
    let verb = if on { "set" } else { "unset" };
    let index = index.to_string();
    [verb, "-a", attribute.name(), "-i", &index, disk].map(str::to_owned)
}

fn run(program: &str, arguments: &[String]) -> Result<String, SlotError> {
    let ended = Tool::new(program, LIMIT).run(arguments, "")?;
    match ended.success() {
        true => Ok(ended.stdout),
        false => {
            Err(SlotError::Gpart { command: arguments.join(" "), reason: ended.stderr.trim().to_owned() })
        }
    }
}

fn look() -> Result<(Geom, SlotName), SlotError> {
    let mounts = run("/sbin/mount", &["-p".into()])?;
    let root = root_device(&mounts).ok_or_else(|| SlotError::NoSlots("/ is on no disk".into()))?;
    let geoms = parse_list(&run("/sbin/gpart", &["list".into()])?);
    find_running(&geoms, root)
        .ok_or_else(|| SlotError::NoSlots(format!("/ is on /dev/{root}, which is no slot of a pair")))
}

fn provider(slot: SlotName) -> Result<(Geom, Provider), SlotError> {
    let (geom, _) = look()?;
    let found = geom.providers.iter().find(|provider| provider.label == slot.label()).cloned();
    found.map(|found| (geom, found)).ok_or_else(|| SlotError::NoSlots(slot.label().into()))
}

impl Slots for GpartSlots {
    fn running(&self) -> Result<SlotName, SlotError> {
        Ok(look()?.1)
    }
    fn attributes(&self, slot: SlotName) -> Result<Attributes, SlotError> {
        Ok(provider(slot)?.1.attributes)
    }
    fn set(&self, slot: SlotName, attribute: Attribute, on: bool) -> Result<(), SlotError> {
        self.repair()?;
        let (geom, found) = provider(slot)?;
        run("/sbin/gpart", &attribute_arguments(attribute, on, found.index, &geom.name)).map(drop)
    }
    fn repair(&self) -> Result<(), SlotError> {
        let (geom, _) = look()?;
        match geom.ok {
            true => Ok(()),
            false => run("/sbin/gpart", &["recover".into(), geom.name]).map(drop),
        }
    }
    fn capacity(&self, slot: SlotName) -> Result<u64, SlotError> {
        Ok(provider(slot)?.1.bytes)
    }
    fn open(&self, slot: SlotName) -> Result<Box<dyn Medium>, SlotError> {
        let (_, found) = provider(slot)?;
        // Not by label: another disk in this machine may have the same ones.
        let device = format!("/dev/{}", found.name);
        Ok(Box::new(Device(OpenOptions::new().read(true).write(true).open(device)?)))
    }
    fn version(&self, slot: SlotName) -> Option<String> {
        let (_, found) = provider(slot).ok()?;
        std::fs::create_dir_all(MOUNT_POINT).ok()?;
        let device = format!("/dev/{}", found.name);
        let mount = ["-t", "ufs", "-o", "ro,noexec,nosuid", &device, MOUNT_POINT].map(str::to_owned);
        run("/sbin/mount", &mount).ok()?;
        let text = std::fs::read_to_string(format!("{MOUNT_POINT}/{VERSION_FILE}"));
        if let Err(error) = run("/sbin/umount", &[MOUNT_POINT.to_owned()]) {
            log::warn!("{slot}: {error}");
        }
        text.ok().and_then(|text| text.lines().next().map(|line| line.trim().to_owned()))
    }
}

/// A partition's device, which is not buffered.
struct Device(File);

impl Medium for Device {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }
    fn sync(&mut self) -> io::Result<()> {
        match self.0.sync_all() {
            // A device that needs no flush says that it knows none (fsync(2): EINVAL).
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `gpart list` of FreeBSD 15.1, with the appliance's partitions and the lines `attrib`, of which there is one for
    /// each attribute.
    const LIST: &str = "\
Geom name: vtbd0
modified: false
state: OK
fwheads: 16
fwsectors: 63
last: 1501217
first: 34
entries: 128
scheme: GPT
Providers:
1. Name: vtbd0p1
   Mediasize: 34603008 (33M)
   Sectorsize: 512
   Stripesize: 0
   Stripeoffset: 17408
   Mode: r0w0e0
   efimedia: HD(1,GPT,b145122c-e786-11f1-0567-c7697351ff4a,0x22,0x10800)
   rawuuid: b145122c-e786-11f1-0567-c7697351ff4a
   rawtype: c12a7328-f81f-11d2-ba4b-00a0c93ec93b
   label: esp
   length: 34603008
   offset: 17408
   type: efi
   index: 1
   end: 67617
   start: 34
2. Name: vtbd0p3
   Mediasize: 734003200 (700M)
   Sectorsize: 512
   Stripesize: 0
   Stripeoffset: 34620416
   Mode: r1w0e1
   efimedia: HD(3,GPT,b1451240-e786-11f1-18ec-29cdbaabf2fb,0x10822,0x15e000)
   rawuuid: b1451240-e786-11f1-18ec-29cdbaabf2fb
   rawtype: 516e7cb6-6ecf-11d6-8ff8-00022d09712b
   attrib: bootme
   label: slot-a
   length: 734003200
   offset: 34620416
   type: freebsd-ufs
   index: 3
   end: 1501217
   start: 67618
3. Name: vtbd0p4
   Mediasize: 734003200 (700M)
   Sectorsize: 512
   Mode: r0w0e0
   rawuuid: b1451241-e786-11f1-18ec-29cdbaabf2fb
   rawtype: 516e7cb6-6ecf-11d6-8ff8-00022d09712b
   attrib: bootonce
   attrib: bootme
   label: slot-b
   length: 734003200
   offset: 768623616
   type: freebsd-ufs
   index: 4
   end: 2934817
   start: 1501218
Consumers:
1. Name: vtbd0
   Mediasize: 768640512 (733M)
   Sectorsize: 512
   Mode: r1w1e3

";

    #[test]
    fn partitions_and_their_attributes() {
        let geoms = parse_list(LIST);
        assert_eq!(geoms.len(), 1);
        assert!(geoms[0].ok && geoms[0].name == "vtbd0");
        let told: Vec<_> = geoms[0]
            .providers
            .iter()
            .map(|p| {
                (p.name.as_str(), p.index, p.label.as_str(), p.attributes.boot_me, p.attributes.boot_once)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("vtbd0p1", 1, "esp", false, false),
                ("vtbd0p3", 3, "slot-a", true, false),
                ("vtbd0p4", 4, "slot-b", true, true)
            ]
        );
        assert_eq!(geoms[0].providers[2].bytes, 734_003_200);
        assert!(!parse_list(&LIST.replace("state: OK", "state: CORRUPT"))[0].ok);
    }

    #[test]
    fn the_running_slot_by_label_device_or_identifier() {
        let mounts = "/dev/gpt/slot-a\t\t/\t\t\tufs\tro\t\t1 1\ndevfs\t\t\t/dev\t\t\tdevfs\trw\t\t0 0\n";
        assert_eq!(root_device(mounts), Some("gpt/slot-a"));
        assert_eq!(root_device("tmpfs\t/\ttmpfs rw 0 0\n"), None);
        let geoms = parse_list(LIST);
        let slot = |root: &str| find_running(&geoms, root).map(|(_, slot)| slot);
        assert_eq!(slot("gpt/slot-a"), Some(SlotName::A));
        assert_eq!(slot("vtbd0p4"), Some(SlotName::B));
        assert_eq!(slot("gptid/b1451241-e786-11f1-18ec-29cdbaabf2fb"), Some(SlotName::B));
        assert_eq!(slot("vtbd0p1"), None);
        // What a machine of other partitions printed, as it is.
        let real = "Geom name: vtbd0\nstate: OK\nProviders:\n1. Name: vtbd0p2\n   label: root\n   index: 2\n";
        assert_eq!(find_running(&parse_list(real), "gpt/root"), None);
    }

    #[test]
    fn real_output_of_freebsd_15_1() {
        let Some(captured) = crate::testing::shared("freebsd-15.1") else { return };
        let geoms = parse_list(&std::fs::read_to_string(captured.join("gpart-list.txt")).unwrap());
        assert_eq!(geoms[0].name, "vtbd0");
        let labels: Vec<_> = geoms[0].providers.iter().map(|p| (p.label.as_str(), p.index)).collect();
        assert_eq!(labels, [("esp", 1), ("root", 2)]);
        let mounts = std::fs::read_to_string(captured.join("mount-p.txt")).unwrap();
        assert_eq!(root_device(&mounts), Some("gpt/root"));
    }

    #[test]
    fn arguments_of_gpart() {
        let told = |attribute, on| attribute_arguments(attribute, on, 4, "vtbd0").join(" ");
        assert_eq!(told(Attribute::BootOnce, true), "set -a bootonce -i 4 vtbd0");
        assert_eq!(told(Attribute::BootMe, false), "unset -a bootme -i 4 vtbd0");
    }
}
