//! Packages made to do harm, or merely broken: refused with nothing changed.

use aifw::update::testing::{Package, Signer, noise, xz};
use serde_json::json;
use tar::EntryType;

use crate::rig::{Rig, image, own};

/// Names a case, its bytes, and a part of the refusal.
type Case = (&'static str, Vec<u8>, &'static str);

fn raw(version: &str) -> Package {
    Package::new(version, &image(1))
}

/// A header with a name, a kind and a size that nothing keeps to.
fn header(name: &str, kind: EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn cases(rig: &Rig) -> Vec<Case> {
    let signer = &rig.signer;
    let top = raw("9.9.9").top();
    let good = || raw("9.9.9").signed(signer);
    let named = |name: &str| raw("9.9.9").entry(name, EntryType::Regular, None, b"x".to_vec()).bytes();
    let kind = |kind: EntryType, link: Option<&str>| {
        raw("9.9.9").entry(&format!("{top}/manifest.json"), kind, link, Vec::new()).signed(signer).bytes()
    };
    let signed = |package: Package| package.signed(signer).bytes();
    let mut swapped = good();
    swapped.entries[2].3[100] ^= 1;
    let mut shorter = good();
    shorter.entries[2].3.truncate(512);
    let mut foreign_manifest = good();
    foreign_manifest.entries[0].3.push(b' ');
    let mut backwards = good();
    backwards.entries.reverse();
    let mut twice = good();
    twice.entries.push(twice.entries[2].clone());
    let mut unsigned = good();
    unsigned.entries.remove(1);
    let mut two_keys = good();
    two_keys.entries[1].3.extend_from_slice(&[0; 64]);
    let bytes = good().bytes();
    let with_tail = |tail: &[u8]| [good().tar(), tail.to_vec()].concat();
    vec![
        // Ways out.
        ("dots", named(&format!("{top}/../../etc/passwd")), "does not lie in its directory"),
        ("absolute", named("/etc/passwd"), "does not lie in its directory"),
        ("a dot", named(&format!("{top}/./manifest.json")), "does not lie in its directory"),
        ("backslashes", named("..\\..\\x/manifest.json"), "does not lie in its directory"),
        ("no directory", named("manifest.json"), "does not lie in its directory"),
        ("a directory of another name", named("root/manifest.json"), "expected aifw-update-VERSION-ARCH"),
        ("deeper", named(&format!("{top}/bin/aifw")), "has no place in it"),
        (
            "a second directory",
            {
                let other = raw("9.9.8").top();
                let sig = format!("{other}/manifest.sig");
                raw("9.9.9")
                    .file("manifest.json", b"{}".to_vec())
                    .entry(&sig, EntryType::Regular, None, vec![0; 64])
                    .bytes()
            },
            "does not lie in its directory",
        ),
        // What is no file.
        ("a symbolic link", kind(EntryType::Symlink, Some("/etc/master.passwd")), "no regular file"),
        ("a hard link", kind(EntryType::Link, Some("/data/aifw/aifw.redb")), "no regular file"),
        ("a character device", kind(EntryType::Char, None), "no regular file"),
        ("a block device", kind(EntryType::Block, None), "no regular file"),
        ("a fifo", kind(EntryType::Fifo, None), "no regular file"),
        ("a directory in the middle", kind(EntryType::Directory, None), "no regular file"),
        ("a long name", kind(EntryType::GNULongName, None), "no regular file"),
        ("a long link", kind(EntryType::GNULongLink, None), "no regular file"),
        ("a sparse file", kind(EntryType::GNUSparse, None), "no regular file"),
        ("an extended header", kind(EntryType::XHeader, None), "no regular file"),
        ("a global header", kind(EntryType::XGlobalHeader, None), "no regular file"),
        // Bombs.
        ("zeros without end behind it", xz(&with_tail(&vec![0; 64 << 20])), "more than a slot can hold"),
        (
            "a large manifest",
            raw("9.9.9").file("manifest.json", vec![b' '; 32 << 20]).bytes(),
            "manifest.json: expected",
        ),
        (
            "a manifest of many bytes by its header",
            xz(&header(&format!("{top}/manifest.json"), EntryType::Regular, 1 << 60)),
            "manifest.json: expected",
        ),
        ("a window of 4 GiB", bomb_of_memory(), "cut off or damaged"),
        (
            "many entries",
            {
                let mut package = good();
                for _ in 0..500 {
                    package = package.file("slot.img", Vec::new());
                }
                package.bytes()
            },
            "has no place in it",
        ),
        (
            "an image larger than the slot",
            signed(Package::new("9.9.9", &noise(1, 5 << 20))),
            "a slot has 4194304",
        ),
        (
            "an image that says to be larger than the slot",
            signed(raw("9.9.9").with("slot", json!({"size": 1_u64 << 50, "sha256": "ab".repeat(32)}))),
            "a slot has 4194304",
        ),
        // Not what was signed.
        ("a foreign key", raw("9.9.9").signed(&Signer::new()).bytes(), "not by any release key"),
        ("no signature", unsigned.bytes(), "expected manifest.sig"),
        ("a signature that is too long", two_keys.bytes(), "manifest.sig: expected 64"),
        ("a changed manifest", foreign_manifest.bytes(), "not by any release key"),
        ("a changed image", swapped.bytes(), "SHA-256 differs"),
        ("a shorter image", shorter.bytes(), "its manifest says"),
        ("another order", backwards.bytes(), "expected manifest.json"),
        ("the image twice", twice.bytes(), "has no place in it"),
        (
            "no image",
            {
                let mut package = good();
                package.entries.pop();
                package.bytes()
            },
            "it has no slot.img",
        ),
        (
            "a manifest that is none",
            {
                let text = b"[]".to_vec();
                let signature = signer.sign(&text);
                raw("9.9.9").file("manifest.json", text).file("manifest.sig", signature).bytes()
            },
            "manifest.json cannot be read",
        ),
        (
            "another version in the name",
            {
                let mut package = raw("9.9.8");
                package.version = "9.9.7".into();
                signed(package)
            },
            "its manifest says",
        ),
        ("another architecture", signed(raw("9.9.9").with("arch", json!("riscv64"))), "it is for riscv64"),
        ("a later format", signed(raw("9.9.9").with("format", json!(2))), "its format is 2"),
        (
            "a version that is none",
            signed(raw("9.9.9").with("version", json!("nine"))),
            "manifest.json cannot be read",
        ),
        (
            "an update from a later firmware",
            signed(raw("9.9.9").with("updates_from", json!("5.0.0"))),
            "it updates firmware 5.0.0 or newer",
        ),
        (
            "a size that is no multiple of 512",
            signed(Package::new("9.9.9", &noise(1, 1000))),
            "multiple of 512",
        ),
        ("an empty image", signed(Package::new("9.9.9", &[])), "more than 0"),
        // Broken.
        ("nothing", Vec::new(), "cut off or damaged"),
        ("text", b"this is no archive, whatever its name says it is".to_vec(), "not compressed with xz"),
        ("zeros", vec![0; 4096], "not compressed with xz"),
        ("a tar that is not compressed", good().tar(), "not compressed with xz"),
        ("gzip", gzip(&good().tar()), "not compressed with xz"),
        ("xz of no tar", xz(&noise(3, 4096)), ""),
        ("xz of nothing", xz(&[]), "it has no manifest.json"),
        ("bytes behind the end", xz(&with_tail(b"more")), "bytes follow the end"),
        ("a second stream behind it", [bytes.clone(), xz(b"x")].concat(), "bytes follow the end"),
        ("rubbish behind it", [bytes.clone(), vec![7; 3]].concat(), "bytes follow the end"),
        ("cut off in the image", bytes[..bytes.len() / 2].to_vec(), "cut off or damaged"),
        ("cut off at the end", bytes[..bytes.len() - 1].to_vec(), "cut off or damaged"),
        ("cut off in the beginning", bytes[..9].to_vec(), "cut off or damaged"),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An xz stream whose block asks the decompressor for a dictionary of 4 GiB - 1 (xz file format 1.2 §5.3.1: 40).
fn bomb_of_memory() -> Vec<u8> {
    let mut bytes = vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 0];
    bytes.extend_from_slice(&crc32fast::hash(&[0, 0]).to_le_bytes());
    let block = [2_u8, 0, 0x21, 1, 40, 0, 0, 0];
    bytes.extend_from_slice(&block);
    bytes.extend_from_slice(&crc32fast::hash(&block).to_le_bytes());
    bytes.extend_from_slice(&[1; 64]);
    bytes
}

#[test]
fn b13_hostile_and_broken_packages_change_nothing() {
    smol::block_on(async {
        let rig = Rig::new();
        // So that there is a disk with something on it to be harmed, and a slot that waits.
        let answer = rig.install_file(&rig.package("1.0.0", &image(9)).bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let before = rig.everything();
        let cases = cases(&rig);
        for (name, bytes, expected) in &cases {
            let answer = rig.install_file(bytes).await;
            let told = answer.json()["message"].as_str().unwrap_or_default().to_owned();
            assert_eq!(answer.status, 400, "{name}: {told}");
            assert!(told.contains(expected), "{name}: {told:?} does not say {expected:?}");
            assert!(told.contains("package") || told.contains("SHA-256"), "{name}: {told:?}");
            assert!(rig.everything() == before, "{name}: something was changed");
            assert_eq!(rig.leftovers(), [""; 0], "{name}");
        }
        let failed = rig.history().await;
        assert_eq!((failed[0].0.as_str(), failed[0].1.as_str()), ("install_local", "failed"));
        println!("{} packages refused", cases.len());
        // All the while a good one is taken.
        let answer = rig.install_file(&rig.package("1.0.1", &image(10)).bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(rig.slot("slot-b", image(10).len()), image(10));
    });
}

#[test]
fn a_package_cut_off_anywhere_changes_nothing() {
    smol::block_on(async {
        let rig = Rig::new();
        let bytes = Package::new("9.9.9", &noise(2, 2048)).signed(&rig.signer).bytes();
        let before = rig.everything();
        for length in (0..bytes.len()).step_by(7) {
            let answer = rig.install_file(&bytes[..length]).await;
            assert_eq!(answer.status, 400, "{length} of {}: {}", bytes.len(), answer.text());
        }
        // And so does any bit that is turned over.
        for at in (0..bytes.len()).step_by(13) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let answer = rig.install_file(&damaged).await;
            assert_eq!(answer.status, 400, "byte {at}: {}", answer.text());
        }
        assert_eq!(rig.everything(), before);
        assert_eq!(rig.install_file(&bytes).await.status, 200);
    });
}

#[test]
fn without_a_release_key_nothing_is_trusted_and_keys_can_change_over() {
    smol::block_on(async {
        let rig = Rig::new();
        let keys = rig.path("release.keys");
        let package = rig.package("9.9.9", &image(1)).bytes();
        std::fs::write(&keys, "# none yet\n").unwrap();
        let answer = rig.install_file(&package).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("no release key is installed"), "{}", answer.text());
        let next = Signer::new();
        std::fs::write(&keys, format!("{}\n{} # next\n", next.public(), rig.signer.public())).unwrap();
        assert_eq!(rig.install_file(&package).await.status, 200);
        let by_next = Package::new("9.9.10", &image(2)).signed(&next).bytes();
        assert_eq!(rig.install_file(&by_next).await.status, 200);
        std::fs::write(&keys, "not a key\n").unwrap();
        let answer = rig.install_file(&package).await;
        assert_eq!(answer.status, 500, "{}", answer.text());
        assert!(answer.text().contains("line 1"), "{}", answer.text());
    });
}

#[test]
fn an_older_version_may_be_brought_by_hand() {
    smol::block_on(async {
        let rig = Rig::new();
        let answer = rig.install_file(&rig.package("0.0.5", &image(1)).bytes()).await;
        assert_eq!((answer.status, &answer.json()["message"]), (200, &"installed 0.0.5".into()));
        let info = rig.get("/updates/aifw/status").await;
        assert_eq!((&info["current_version"], &info["running_version"]), (&"0.0.5".into(), &own().into()));
    });
}
