//! What tests of updates need: signed packages, good and bad, and a disk in memory. Not used by the appliance.

#![allow(clippy::unwrap_used)]

use std::io::{self, Write};

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::gpt::{SECTOR, Sectors};
use super::manifest::ARCH;

/// A release key.
pub struct Signer(Ed25519KeyPair);

impl Default for Signer {
    fn default() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }
}

impl Signer {
    pub fn new() -> Self {
        Self::default()
    }
    /// Its line in `release.keys`.
    pub fn public(&self) -> String {
        data_encoding::BASE64.encode(self.0.public_key().as_ref())
    }
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(bytes).as_ref().to_vec()
    }
}

/// Lower-case hexadecimal SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// A package being put together. Everything about it can be made wrong.
pub struct Package {
    pub version: String,
    pub image: Vec<u8>,
    pub manifest: Value,
    /// Name, kind, link name, content.
    pub entries: Vec<(String, tar::EntryType, Option<String>, Vec<u8>)>,
}

impl Package {
    /// A good one, to be signed.
    pub fn new(version: &str, image: &[u8]) -> Self {
        let manifest = json!({
            "format": 1, "version": version, "arch": ARCH, "freebsd": "15.1-RELEASE",
            "slot": { "size": image.len(), "sha256": sha256(image) },
            "updates_from": "0.0.1", "notes": format!("notes of {version}"),
        });
        Self { version: version.into(), image: image.to_vec(), manifest, entries: Vec::new() }
    }
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.manifest[field] = value;
        self
    }
    pub fn top(&self) -> String {
        format!("aifw-update-{}-{ARCH}", self.version)
    }
    pub fn file_name(&self) -> String {
        format!("{}.tar.xz", self.top())
    }
    /// Adds the three entries of a good package.
    pub fn signed(mut self, signer: &Signer) -> Self {
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        let signature = signer.sign(&manifest);
        let image = self.image.clone();
        self = self.file("manifest.json", manifest).file("manifest.sig", signature);
        self.file("slot.img", image)
    }
    /// Adds a regular file of the top directory.
    pub fn file(self, name: &str, content: Vec<u8>) -> Self {
        let name = format!("{}/{name}", self.top());
        self.entry(&name, tar::EntryType::Regular, None, content)
    }
    pub fn entry(mut self, name: &str, kind: tar::EntryType, link: Option<&str>, content: Vec<u8>) -> Self {
        self.entries.push((name.into(), kind, link.map(str::to_owned), content));
        self
    }
    pub fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, link, content) in &self.entries {
            let mut header = tar::Header::new_ustar();
            // Past the checks of the builder, which makes no names that lead outside.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            if let Some(link) = link {
                header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }
    pub fn bytes(&self) -> Vec<u8> {
        xz(&self.tar())
    }
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

/// A disk in memory.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    pub bytes: Vec<u8>,
    /// Sectors that were written.
    pub written: u64,
}

impl MemoryDisk {
    pub fn new(sectors: usize) -> Self {
        Self { bytes: vec![0; sectors * SECTOR], written: 0 }
    }
}

impl Sectors for MemoryDisk {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }
    fn read(&mut self, first: u64, into: &mut [u8]) -> io::Result<()> {
        let at = first as usize * SECTOR;
        let found = self.bytes.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(found);
        Ok(())
    }
    fn write(&mut self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let at = first as usize * SECTOR;
        let there = self.bytes.get_mut(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        there.copy_from_slice(bytes);
        self.written += (bytes.len() / SECTOR) as u64;
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
