//! The slot machine under power cuts at every single write: all states that a script of updates goes through are
//! kept, with writes that were not synced yet lost in all ways that matter; from each of them the machine is turned
//! on, and from each state that *this* goes through, once more. Whatever happens, gptboot never tries a slot that is
//! not whole, the firmware that comes up finds the store that is its own, and the next update works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead};
use std::sync::{Arc, Mutex, MutexGuard};

use semver::Version;

use super::boot;
use super::gpt::{Attribute, Gpt, Partition, SECTOR, Sectors};
use super::machine::{Boot, Machine, Outcome};
use super::manifest::{Keys, Policy};
use super::place::Place;
use super::slots::image::ImageSlots;
use super::slots::{SlotName, Slots};
use super::state::{FILE, Kind, Phase, State};
use super::testing::{Package, Signer, noise};
use crate::store::DATABASE_FILE;

const SLOT: usize = 2048;
const SECTORS: usize = 120;
/// A firmware that never becomes healthy, though it migrates the store.
const SICK: u64 = 3;

/// Everything that outlasts a power cut.
#[derive(Clone)]
struct World {
    disk: Vec<u8>,
    /// Sectors that were written and not synced, with what was there before; oldest first.
    unsynced: Vec<(u64, Vec<u8>)>,
    files: BTreeMap<String, Vec<u8>>,
    /// The store as the firmware of each slot left it.
    left: [Option<Vec<u8>>; 2],
}

impl World {
    /// This world with some of the unsynced writes lost.
    fn without(&self, lost: impl Fn(usize) -> bool) -> Self {
        let mut world = self.clone();
        for (number, (sector, before)) in self.unsynced.iter().enumerate().rev() {
            if lost(number) {
                let at = *sector as usize * SECTOR;
                world.disk[at..at + SECTOR].copy_from_slice(before);
            }
        }
        world.unsynced.clear();
        world
    }
    /// What a cut now may leave.
    fn cuts(&self) -> Vec<Self> {
        let count = self.unsynced.len();
        if count <= 3 {
            return (0..1_usize << count).map(|mask| self.without(|n| mask >> n & 1 == 1)).collect();
        }
        let last = count - 1;
        vec![
            self.without(|_| false),
            self.without(|_| true),
            self.without(|n| n % 2 == 0),
            self.without(|n| n % 2 == 1),
            self.without(|n| n == 0),
            self.without(|n| n == last),
        ]
    }
    fn identity(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.disk, &self.files, &self.left).hash(&mut hasher);
        hasher.finish()
    }
}

struct Bench {
    world: World,
    /// Every state since the recording began.
    seen: Option<Vec<World>>,
}

#[derive(Clone)]
struct Rig(Arc<Mutex<Bench>>);

impl Rig {
    fn new(world: World, recording: bool) -> Self {
        let seen = recording.then(Vec::new);
        Self(Arc::new(Mutex::new(Bench { world, seen })))
    }
    fn lock(&self) -> MutexGuard<'_, Bench> {
        self.0.lock().unwrap()
    }
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut bench = self.lock();
        let done = change(&mut bench.world);
        let cuts = bench.seen.is_some().then(|| bench.world.cuts());
        if let (Some(seen), Some(cuts)) = (&mut bench.seen, cuts) {
            seen.extend(cuts);
        }
        done
    }
    /// The states that were seen, each once.
    fn states(self) -> Vec<World> {
        let mut known = HashSet::new();
        let seen = self.lock().seen.take().unwrap();
        seen.into_iter().filter(|world| known.insert(world.identity())).collect()
    }
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().world.files.get(name).cloned()
    }
}

impl Sectors for Rig {
    fn sectors(&self) -> u64 {
        (self.lock().world.disk.len() / SECTOR) as u64
    }
    fn read(&mut self, first: u64, into: &mut [u8]) -> io::Result<()> {
        let at = first as usize * SECTOR;
        into.copy_from_slice(&self.lock().world.disk[at..at + into.len()]);
        Ok(())
    }
    fn write(&mut self, first: u64, bytes: &[u8]) -> io::Result<()> {
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let number = first + number as u64;
            self.change(|world| {
                let there = &mut world.disk[number as usize * SECTOR..][..SECTOR];
                world.unsynced.push((number, there.to_vec()));
                there.copy_from_slice(sector);
            });
        }
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.lock().world.unsynced.clear();
        Ok(())
    }
}

impl Place for Rig {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(Self::read(self, name))
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(|world| world.files.insert(name.into(), bytes.into()));
        Ok(())
    }
    fn copy(&self, from: &str, to: &str) -> io::Result<bool> {
        let Some(bytes) = Self::read(self, from) else { return Ok(false) };
        Place::write(self, to, &bytes).map(|()| true)
    }
}

/// What was ever released, and the key.
struct Releases {
    keys: Keys,
    signer: Signer,
}

fn image(number: u64) -> Vec<u8> {
    noise(number, SLOT)
}
fn version(number: u64) -> Version {
    Version::new(0, number, 0)
}

/// The number of the firmware in a partition; `None` = it is not whole.
fn firmware_in(disk: &mut dyn Sectors, partition: &Partition) -> Option<u64> {
    let mut found = vec![0; SLOT];
    disk.read(partition.first, &mut found).unwrap();
    (1..10).find(|number| image(*number) == found)
}

impl Releases {
    fn factory(&self) -> World {
        let mut disk = super::testing::MemoryDisk::new(SECTORS);
        ImageSlots::format(&mut disk, SLOT as u64, true).unwrap();
        let partitions = Gpt::read(&mut disk).unwrap().partitions().unwrap();
        disk.write(partitions[2].first, &image(1)).unwrap();
        World {
            disk: disk.bytes,
            unsynced: Vec::new(),
            files: BTreeMap::from([(DATABASE_FILE.into(), b"schema 1:".to_vec())]),
            left: [Some(b"schema 1:".to_vec()), None],
        }
    }

    fn package(&self, number: u64) -> Vec<u8> {
        Package::new(&version(number).to_string(), &image(number)).signed(&self.signer).bytes()
    }
}

/// A machine that is on.
struct On {
    rig: Rig,
    slots: ImageSlots,
    slot: SlotName,
    number: u64,
}

impl On {
    /// From the power switch to a firmware that is confirmed, if it is healthy.
    fn turn_on(rig: &Rig) -> Self {
        let mut disk = rig.clone();
        let mut tried = None;
        let chosen = boot::choose(&mut disk, |disk, partition| {
            tried = firmware_in(disk, partition);
            assert!(tried.is_some(), "gptboot tries {}, which is not whole", partition.label);
            true
        });
        let chosen = chosen.unwrap().expect("nothing boots");
        let slot = SlotName::BOTH.into_iter().find(|slot| slot.label() == chosen.label).unwrap();
        let number = tried.unwrap();
        let slots = ImageSlots::new(Box::new(rig.clone()), slot);
        let on = Self { rig: rig.clone(), slots, slot, number };
        on.rc_gptboot();
        let boot = on.machine().boot(&version(number)).unwrap();
        on.open_store(&boot);
        let on_trial = matches!(boot, Boot::Trying { .. });
        if on_trial && number != SICK {
            assert!(on.machine().commit().unwrap().is_some());
        }
        assert!(!matches!(boot, Boot::Committed(_)) || number != SICK, "a sick firmware was confirmed");
        on
    }

    fn machine(&self) -> Machine<'_> {
        Machine { slots: &self.slots, place: &self.rig }
    }

    /// FreeBSD's /etc/rc.d/gptboot, which runs before us: marks of tries that have been made are cleared.
    fn rc_gptboot(&self) {
        self.slots.repair().unwrap();
        for slot in SlotName::BOTH {
            let held = self.slots.attributes(slot).unwrap();
            if held.boot_me {
                continue;
            }
            if held.boot_failed {
                self.slots.set(slot, Attribute::BootFailed, false).unwrap();
            } else if held.boot_once {
                self.slots.set(slot, Attribute::BootOnce, false).unwrap();
            }
        }
    }

    /// The store must be the one that this firmware is to find; it migrates it.
    fn open_store(&self, boot: &Boot) {
        let found = self.rig.read(DATABASE_FILE).unwrap();
        let left = self.rig.lock().world.left.clone();
        let expected = match boot {
            Boot::Trying { attempt, starts: 1 } if attempt.kind == Kind::Install => {
                &left[attempt.from.index()]
            }
            Boot::FellBack(attempt) => &left[attempt.from.index()],
            _ => &left[self.slot.index()],
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let expected = text(expected.as_ref().expect("this firmware never had a store"));
        assert_eq!(text(&found), expected, "{} after {boot:?}", self.number);
        let (schema, data) = expected.split_once(':').unwrap();
        let schema: u64 = schema.trim_start_matches("schema ").parse().unwrap();
        assert!(schema <= self.number, "firmware {} finds a store of {schema}", self.number);
        self.keep_store(&format!("schema {}:{data}", self.number));
    }

    fn keep_store(&self, text: &str) {
        let slot = self.slot.index();
        if self.rig.read(DATABASE_FILE).as_deref() == Some(text.as_bytes())
            && self.rig.lock().world.left[slot].as_deref() == Some(text.as_bytes())
        {
            return;
        }
        self.rig.change(|world| {
            world.files.insert(DATABASE_FILE.into(), text.into());
            world.left[slot] = Some(text.into());
        });
    }

    /// The administrator changes something.
    fn configure(&self, what: char) {
        let mut text = String::from_utf8(self.rig.read(DATABASE_FILE).unwrap()).unwrap();
        text.push(what);
        self.keep_store(&text);
    }

    fn install(&self, releases: &Releases, number: u64) -> Outcome {
        let package = releases.package(number);
        let open = || -> io::Result<Box<dyn BufRead>> { Ok(Box::new(io::Cursor::new(package.clone()))) };
        let policy = Policy { running: version(self.number), downgrade_allowed: true, capacity: u64::MAX };
        self.machine().install(&open, &releases.keys, &policy, Vec::new(), &|_, _, _| {}).unwrap()
    }

    fn roll_back(&self) -> Version {
        self.machine().roll_back(&version(self.number), Vec::new()).unwrap()
    }
}

/// From any state: the machine comes up, settles within a few boots, and can be updated.
fn recovers(rig: &Rig, releases: &Releases) -> u64 {
    for _ in 0..3 {
        On::turn_on(rig);
    }
    let on = On::turn_on(rig);
    assert_eq!(State::load(rig).unwrap().phase, Phase::Idle);
    let bootable = |slot: &SlotName| {
        on.slots.attributes(*slot).unwrap().boot_me && !on.slots.attributes(*slot).unwrap().boot_once
    };
    let bootable: Vec<SlotName> = SlotName::BOTH.into_iter().filter(bootable).collect();
    assert_eq!(bootable, [on.slot], "one slot, and the one that runs, is to be booted");
    on.configure('r');
    assert!(matches!(on.install(releases, 9), Outcome::Written(_)));
    let new = On::turn_on(rig);
    assert_eq!((new.number, new.slot), (9, on.slot.other()));
    assert_eq!(On::turn_on(rig).number, 9);
    on.number
}

/// Updates, changes, a firmware that fails, going back, going forward, and going back before the reboot.
fn script(rig: &Rig, releases: &Releases) {
    let on = On::turn_on(rig);
    on.configure('a');
    on.install(releases, 2);
    on.configure('b');
    let on = On::turn_on(rig);
    assert_eq!((on.number, on.slot), (2, SlotName::B));
    on.configure('c');
    // Fails, and the store comes back as it was left.
    on.install(releases, SICK);
    assert_eq!(On::turn_on(rig).number, SICK);
    let on = On::turn_on(rig);
    assert_eq!((on.number, on.rig.read(DATABASE_FILE).unwrap()), (2, b"schema 2:abc".to_vec()));
    assert!(on.machine().roll_back(&version(2), Vec::new()).is_err(), "what has failed is not gone back to");
    on.install(releases, 4);
    let on = On::turn_on(rig);
    on.configure('d');
    assert_eq!((on.number, on.slot), (4, SlotName::A));
    // Back, with the store as the older one left it; and forward again.
    assert_eq!(on.roll_back(), version(2));
    let on = On::turn_on(rig);
    assert_eq!((on.number, on.rig.read(DATABASE_FILE).unwrap()), (2, b"schema 2:abc".to_vec()));
    on.configure('e');
    assert_eq!(on.roll_back(), version(4));
    let on = On::turn_on(rig);
    assert_eq!((on.number, on.rig.read(DATABASE_FILE).unwrap()), (4, b"schema 4:abcd".to_vec()));
    // Thought better of before the reboot.
    on.install(releases, 5);
    assert_eq!(on.roll_back(), version(4));
    let on = On::turn_on(rig);
    assert_eq!(on.number, 4);
    assert_eq!(on.roll_back(), version(5), "it was written, and is whole");
    assert_eq!(On::turn_on(rig).number, 5);
}

fn releases() -> Releases {
    let signer = Signer::new();
    Releases { keys: Keys::parse(&signer.public()).unwrap(), signer }
}

#[test]
fn the_slot_machine_survives_power_cuts_at_every_write() {
    let releases = releases();
    let rig = Rig::new(releases.factory(), true);
    script(&rig, &releases);
    let first = rig.states();
    let (mut deep, mut both_torn) = (0, 0);
    let mut known = HashSet::new();
    let mut ended = BTreeMap::<u64, usize>::new();
    for world in &first {
        let whole = table(world).expect("one cut has torn both copies of the table").is_whole();
        let rig = Rig::new(world.clone(), true);
        *ended.entry(recovers(&rig, &releases)).or_default() += 1;
        // The power is cut again, while the machine recovers: before the update that follows.
        for world in rig.states() {
            if !world.files.contains_key(FILE) || world_is_updating(&world) || !known.insert(world.identity())
            {
                continue;
            }
            if table(&world).is_none() {
                // gptboot writes into the only copy that the first cut has left, and the second cut hits just that:
                // between two sectors, in two boots one after the other. Nothing of ours can help there.
                assert!(!whole, "both copies of a table that was whole are torn");
                both_torn += 1;
                continue;
            }
            deep += 1;
            recovers(&Rig::new(world, false), &releases);
        }
    }
    println!(
        "{} states after one cut, {deep} after two ({both_torn} more with gptboot's table torn twice); firmware after one \
         cut: {ended:?}",
        first.len()
    );
    assert!(both_torn < deep, "{both_torn} of {deep}");
    assert!(first.len() > 300 && deep > first.len());
    assert!(!ended.contains_key(&SICK));
}

/// The partition table; `None` when neither copy is valid.
fn table(world: &World) -> Option<Gpt> {
    Gpt::read(&mut Rig::new(world.clone(), false)).ok()
}

/// States of the closing update of [`recovers`] are those of the script once more.
fn world_is_updating(world: &World) -> bool {
    String::from_utf8_lossy(&world.files[FILE]).contains("0.9.0")
        || world.files[DATABASE_FILE].contains(&b'r')
}

#[test]
fn a_restart_of_the_process_is_no_boot() {
    let releases = releases();
    let rig = Rig::new(releases.factory(), false);
    let on = On::turn_on(&rig);
    on.install(&releases, 2);
    for _ in 0..3 {
        assert_eq!(on.machine().boot(&version(1)).unwrap(), Boot::Settled);
    }
    let sick = On::turn_on(&rig);
    assert_eq!(sick.number, 2);
    sick.install(&releases, SICK);
    let sick = On::turn_on(&rig);
    let starts = |boot: Boot| match boot {
        Boot::Trying { starts, .. } => starts,
        other => panic!("{other:?}"),
    };
    assert_eq!(starts(sick.machine().boot(&version(SICK)).unwrap()), 2);
    assert_eq!(starts(sick.machine().boot(&version(SICK)).unwrap()), 3);
    assert!(sick.machine().roll_back(&version(SICK), Vec::new()).is_err());
    assert_eq!(On::turn_on(&rig).number, 2);
}

#[test]
fn the_other_slot_chosen_by_hand_is_gone_back_to() {
    let releases = releases();
    let rig = Rig::new(releases.factory(), false);
    On::turn_on(&rig).install(&releases, 2);
    let on = On::turn_on(&rig);
    on.configure('n');
    // At the loader somebody picks slot A.
    let slots = ImageSlots::new(Box::new(rig.clone()), SlotName::A);
    let by_hand = On { rig: rig.clone(), slots, slot: SlotName::A, number: 1 };
    let boot = by_hand.machine().boot(&version(1)).unwrap();
    assert!(matches!(&boot, Boot::Trying { attempt, .. } if attempt.kind == Kind::Rollback), "{boot:?}");
    by_hand.open_store(&boot);
    assert!(by_hand.machine().commit().unwrap().is_some());
    let on = On::turn_on(&rig);
    assert_eq!((on.number, on.roll_back()), (1, version(2)));
    let on = On::turn_on(&rig);
    assert_eq!((on.number, rig.read(DATABASE_FILE).unwrap()), (2, b"schema 2:n".to_vec()));
    on.slots.set(SlotName::A, Attribute::BootFailed, true).unwrap();
    assert_eq!(On::turn_on(&rig).number, 2);
}
