//! 200 rounds of an appliance that is killed while it updates itself: a process of its own boots from a disk image,
//! opens the real store, confirms itself, changes its configuration, installs the next version and goes back now and
//! then, again and again, until SIGKILL ends it at a random moment. Afterwards there is always a slot that boots and
//! is whole, and a store that opens and is the one of the firmware in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aifw::platform::Platform;
use aifw::platform::sandbox::Sandbox;
use aifw::store::{Author, Draft, Store, StoreError};
use aifw::update::machine::Boot;
use aifw::update::slots::SlotName;
use aifw::update::slots::image::SandboxDisk;
use aifw::update::testing::{Package, Signer, noise};
use aifw::update::{Options, Updater};
use semver::Version;

const ROUNDS: usize = 200;
const IMAGE: usize = 96 * 1024;
const SLOT: u64 = 128 * 1024;
/// In its environment a child finds its directory.
const DIRECTORY: &str = "AIFW_CRASH_TEST";

fn image(version: &Version) -> Vec<u8> {
    noise(version.minor, IMAGE)
}

fn begin(dir: &Path) -> (Updater, Store) {
    let slots = SandboxDisk::power_on(&dir.join("disk.img"), SLOT).expect("nothing boots");
    let platform: Arc<dyn Platform> = Arc::new(Sandbox::new(dir));
    let updater = Updater::begin(Options {
        slots: Arc::new(slots),
        platform,
        state_dir: dir.to_owned(),
        keys: dir.join("release.keys"),
        version: Version::new(0, 1, 0),
        simulated: true,
        reboot_marker: dir.join("none"),
        release_url: "http://127.0.0.1:9/".into(),
    });
    let updater = updater.expect("the updater does not begin");
    let store = Store::open(dir).expect("the store does not open");
    check_store(&updater, &store);
    (updater, store)
}

/// The name in the store says which firmware wrote it last: this one, or the one that it is tried after.
fn check_store(updater: &Updater, store: &Store) {
    let name = store.snapshot().config.system.hostname.clone();
    let Some(writer) = name.strip_prefix("fw-").and_then(|rest| rest.split('-').next()) else { return };
    let writer: u64 = writer.parse().unwrap();
    let running = updater.running().minor;
    let before = match updater.boot() {
        Boot::Trying { attempt, .. } => Some(attempt.old.minor),
        _ => None,
    };
    let fits = writer == running || before == Some(writer);
    assert!(fits, "firmware {running} finds the store of {writer} after {:?}", updater.boot());
    assert!(writer <= running, "firmware {running} finds a store that a newer one migrated");
}

fn configure(updater: &Updater, store: &Store, count: u64) {
    let name = format!("fw-{}-{count}", updater.running().minor);
    let done = store.commit(&Author::system("test"), move |draft: &mut Draft| {
        Arc::make_mut(&mut draft.config.system).hostname = name.clone();
        Ok::<(), StoreError>(())
    });
    smol::block_on(done).unwrap();
}

/// The appliance that is killed.
fn live(dir: &Path) {
    let packages = dir.join("packages");
    let mut count = 0;
    loop {
        let (updater, store) = begin(dir);
        configure(&updater, &store, count);
        // Every fifth firmware is sick: it is never confirmed.
        let sick = updater.running().minor % 5 == 0;
        if !sick {
            updater.confirm_boot().unwrap();
            count += 1;
            configure(&updater, &store, count);
            if count % 3 == 0 && updater.info().has_backup {
                updater.roll_back("test").unwrap();
            } else {
                let next = updater.running().minor + 1 + count % 2;
                let package = packages.join(format!("{}.tar.xz", next.min(LAST)));
                updater.install_local(&package, None, "test").unwrap();
            }
        }
        store.close();
    }
}

const LAST: u64 = 60;

#[test]
fn child() {
    if let Ok(dir) = std::env::var(DIRECTORY) {
        live(Path::new(&dir));
    }
}

fn packages(dir: &Path) {
    let signer = Signer::new();
    std::fs::write(dir.join("release.keys"), signer.public()).unwrap();
    std::fs::create_dir(dir.join("packages")).unwrap();
    for minor in 1..=LAST {
        let version = Version::new(0, minor, 0);
        let package = Package::new(&version.to_string(), &image(&version)).signed(&signer);
        std::fs::write(dir.join(format!("packages/{minor}.tar.xz")), package.bytes()).unwrap();
    }
}

/// What the slot that boots holds: nothing was ever written to slot A of the factory.
fn is_whole(dir: &Path, updater: &Updater) -> bool {
    use std::os::unix::fs::FileExt;
    let Ok(file) = std::fs::File::open(dir.join("disk.img")) else { return true };
    let mut disk = aifw::update::slots::image::FileDisk::new(file.try_clone().unwrap());
    let partitions = aifw::update::gpt::Gpt::read(&mut disk).unwrap().partitions().unwrap();
    let slot = updater.slot().unwrap();
    let partition = partitions.iter().find(|partition| partition.label == slot.label()).unwrap();
    let mut held = vec![0; IMAGE];
    file.read_exact_at(&mut held, partition.first * 512).unwrap();
    let factory = slot == SlotName::A && updater.running().minor == 1 && held.iter().all(|byte| *byte == 0);
    factory || held == image(updater.running())
}

/// Milliseconds within which an appliance is killed: so long as two updates take on this host now, as far as one trial
/// tells.
fn longest() -> u64 {
    let scratch = tempfile::tempdir().unwrap();
    packages(scratch.path());
    let begun = Instant::now();
    let (updater, store) = begin(scratch.path());
    configure(&updater, &store, 0);
    updater.install_local(&scratch.path().join("packages/2.tar.xz"), None, "test").unwrap();
    store.close();
    let (updater, store) = begin(scratch.path());
    updater.confirm_boot().unwrap();
    store.close();
    (2 * begun.elapsed().as_millis() as u64).clamp(200, 1000)
}

/// A number below `below` that looks random and is the same in each run of the test.
fn random(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 20) % below
}

#[test]
fn two_hundred_rounds_of_being_killed_leave_a_slot_that_boots_and_an_unharmed_store() {
    let scratch = tempfile::tempdir().unwrap();
    let dir: PathBuf = scratch.path().to_owned();
    packages(&dir);
    let mut state = 0x005e_ed0f_u64;
    let (mut trials, mut fell_back, mut interrupted, mut other) = (0, 0, 0, 0);
    let mut versions = std::collections::BTreeSet::new();
    let longest = longest();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(DIRECTORY, &dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20 + random(&mut state, longest)));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("panicked"),
            "round {round}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (updater, store) = begin(&dir);
        match updater.boot() {
            Boot::Trying { .. } => trials += 1,
            Boot::FellBack(_) => fell_back += 1,
            Boot::Interrupted(_) => interrupted += 1,
            _ => other += 1,
        }
        assert!(is_whole(&dir, &updater), "round {round}: {} boots and is not whole", updater.running());
        assert!(updater.running().minor % 5 != 0 || matches!(updater.boot(), Boot::Trying { .. }));
        versions.insert(updater.running().minor);
        store.close();
    }
    println!(
        "{ROUNDS} rounds: {trials} trials, {fell_back} fallen back, {interrupted} interrupted, {other} others; \
         versions seen: {versions:?}"
    );
    assert!(versions.len() >= 3, "the appliance never came far: {versions:?}");
    // And it still can be updated.
    loop {
        let (updater, store) = begin(&dir);
        updater.confirm_boot().unwrap();
        let last = updater.running().minor == LAST;
        if !last {
            updater.install_local(&dir.join(format!("packages/{LAST}.tar.xz")), None, "test").unwrap();
        }
        store.close();
        if last {
            break;
        }
    }
}
