//! The update package: its form to the byte, its signature, and what is refused.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use liblzma::read::XzDecoder;
use liblzma::write::XzEncoder;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::bench::{Bench, errors, text};

const NAME: &str = "aifw-update-0.2.0-amd64";

fn package(bench: &Bench) -> PathBuf {
    let (image, key) = (bench.image().display().to_string(), bench.name("release.pem"));
    let output = bench.run(&["tarball", "--image", &image, "--key", &key, "--notes", "New: all of it"]);
    assert!(output.status.success(), "{}", errors(&output));
    bench.path(&format!("{NAME}.tar.xz"))
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every entry: its name and contents.
fn entries(path: &PathBuf) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(XzDecoder::new(File::open(path).unwrap()));
    let read = |entry: std::io::Result<tar::Entry<'_, XzDecoder<File>>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

#[test]
fn the_package_has_manifest_signature_and_image_in_this_order() {
    let bench = Bench::new();
    let path = package(&bench);
    let entries = entries(&path);
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["", "manifest.json", "manifest.sig", "slot.img"].map(|name| format!("{NAME}/{name}"));
    assert_eq!(names, expected);
    let (json, signature, image) = (&entries[1].1, &entries[2].1, &entries[3].1);

    let manifest: serde_json::Value = serde_json::from_slice(json).unwrap();
    let expected = serde_json::json!({
        "format": 1, "version": "0.2.0", "arch": "amd64", "freebsd": "15.1-RELEASE",
        "slot": {"size": image.len(), "sha256": hash(image)}, "updates_from": "0.1.0", "notes": "New: all of it"
    });
    assert_eq!(manifest, expected);
    let keys = fs::read_to_string(bench.path("release.keys")).unwrap();
    let public = STANDARD.decode(keys.lines().last().unwrap()).unwrap();
    assert_eq!(signature.len(), 64);
    UnparsedPublicKey::new(&ED25519, public).verify(json, signature).unwrap();

    // The image is slot A's file system, byte for byte.
    let disk = fs::read(bench.path("aifw.img")).unwrap();
    let at = disk.windows(4096).step_by(1 << 20).zip((0..).step_by(1 << 20));
    let start =
        at.map(|(_, at)| at).find(|at| disk[*at..].starts_with(&image[..16384]) && *at > 1 << 20).unwrap();
    assert!(disk[start..start + image.len()] == image[..]);

    let beside = fs::read_to_string(bench.path(&format!("{NAME}.tar.xz.sha256"))).unwrap();
    assert_eq!(beside, format!("SHA256 ({NAME}.tar.xz) = {}\n", hash(&fs::read(&path).unwrap())));
    let left: Vec<_> =
        fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(
        |name| name.to_string_lossy().starts_with(".slot") || name.to_string_lossy().ends_with("partial")
    ));
}

#[test]
fn a_package_is_verified_with_the_right_key_and_no_other() {
    let bench = Bench::new();
    let path = package(&bench).display().to_string();
    let right = bench.run(&["verify", &path, "--keys", &bench.name("release.keys")]);
    assert!(right.status.success() && text(&right).contains("[OK]    signature"), "{}", errors(&right));
    let other = text(&bench.run(&["keygen", &bench.name("other.pem")]));
    fs::write(bench.path("other.keys"), other).unwrap();
    let wrong = bench.run(&["verify", &path, "--keys", &bench.name("other.keys")]);
    assert!(!wrong.status.success());
    assert!(errors(&wrong).contains("the signature is not one of the given keys'"), "{}", errors(&wrong));
    // Both keys, while one takes the other's place.
    let both =
        [fs::read(bench.path("other.keys")).unwrap(), fs::read(bench.path("release.keys")).unwrap()].concat();
    fs::write(bench.path("both.keys"), both).unwrap();
    assert!(bench.run(&["verify", &path, "--keys", &bench.name("both.keys")]).status.success());
    let told = text(&bench.run(&["inspect", &path]));
    assert!(
        told.contains("AiFw 0.2.0 for amd64, FreeBSD 15.1-RELEASE") && told.contains("New: all of it"),
        "{told}"
    );
}

/// Packs entries anew.
fn pack(path: &PathBuf, entries: &[(String, Vec<u8>)]) {
    let mut archive = tar::Builder::new(XzEncoder::new(File::create(path).unwrap(), 0));
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_path(name).unwrap();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap().flush().unwrap();
}

#[test]
fn whatever_is_changed_in_a_package_is_found_out() {
    let bench = Bench::new();
    let good = entries(&package(&bench));
    let path = bench.path("changed.tar.xz");
    type Change = fn(&mut Vec<(String, Vec<u8>)>);
    let changes: [(Change, &str); 8] = [
        (
            |entries| {
                entries[1].1 =
                    String::from_utf8(entries[1].1.clone()).unwrap().replace("all of it", "all of IT").into()
            },
            "signature",
        ),
        (|entries| entries[2].1[5] ^= 1, "signature"),
        (|entries| entries[3].1[70_000] ^= 1, "not the one that was signed"),
        (|entries| entries[3].1.truncate(1 << 20), "not the one that was signed"),
        (|entries| drop(entries.pop()), "ends before slot.img"),
        (|entries| entries.swap(1, 2), "in the place of manifest.json"),
        (|entries| entries.push((format!("{NAME}/more"), vec![1])), "something follows"),
        (
            |entries| entries.iter_mut().for_each(|entry| entry.0 = entry.0.replace("0.2.0", "0.3.0")),
            "its directory is",
        ),
    ];
    let keys = bench.name("release.keys");
    pack(&path, &good);
    let output = bench.run(&["verify", &path.display().to_string(), "--keys", &keys]);
    assert!(output.status.success(), "as it was: {}", errors(&output));
    for (change, told) in changes {
        let mut entries = good.clone();
        change(&mut entries);
        pack(&path, &entries);
        let output = bench.run(&["verify", &path.display().to_string(), "--keys", &keys]);
        assert!(!output.status.success() && errors(&output).contains(told), "{told}: {}", errors(&output));
    }
}

#[test]
fn keys_are_their_owners_and_are_never_written_over() {
    let bench = Bench::new();
    let path = bench.path("release.pem");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    let output = bench.run(&["keygen", &bench.name("release.pem")]);
    assert!(!output.status.success() && errors(&output).contains("is there already"), "{}", errors(&output));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_package_is_made_the_same_way_twice_and_never_for_an_impossible_order() {
    let bench = Bench::new();
    let first = fs::read(package(&bench)).unwrap();
    assert!(first == fs::read(package(&bench)).unwrap());
    let (image, key) = (bench.name("aifw.img"), bench.name("release.pem"));
    let output = bench.run(&["tarball", "--image", &image, "--key", &key, "--updates-from", "0.3.0"]);
    assert!(
        errors(&output).contains("it updates from 0.3.0, which is newer than itself, 0.2.0"),
        "{}",
        errors(&output)
    );
}
