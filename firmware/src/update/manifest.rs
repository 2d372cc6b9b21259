//! The manifest of an update package and its signature: who made it, what is in it, where it may be installed.

use std::path::Path;

use ring::signature::{ED25519, UnparsedPublicKey};
use semver::Version;
use serde::{Deserialize, Serialize};

/// The one arrangement of packages that this firmware reads.
pub const FORMAT: u32 = 1;
/// The architecture that this firmware's packages name, as FreeBSD calls it.
pub const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// `manifest.json` of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub version: Version,
    pub arch: String,
    /// Release of the base system in the image: `15.1-RELEASE`.
    pub freebsd: String,
    pub slot: SlotImage,
    /// Oldest firmware that can update to this one.
    pub updates_from: Version,
    #[serde(default)]
    pub notes: String,
}

/// The file system image of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotImage {
    /// In bytes, a multiple of 512.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The package's one top directory.
    pub fn top(&self) -> String {
        format!("aifw-update-{}-{}", self.version, self.arch)
    }
}

/// What a package is checked against.
#[derive(Debug, Clone)]
pub struct Policy {
    pub running: Version,
    /// An older version is taken: somebody at the appliance asks for it.
    pub downgrade_allowed: bool,
    /// Bytes of the smaller slot.
    pub capacity: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("manifest.json cannot be read: {0}")]
    Unreadable(String),
    #[error("its format is {0}, this firmware knows {FORMAT}")]
    Format(u32),
    #[error("it is for {0}, this machine is {ARCH}")]
    Arch(String),
    #[error("{version} is older than the running {running}; releases are not downgraded from the network")]
    Downgrade { version: Version, running: Version },
    #[error("it updates firmware {from} or newer, {running} is running; install a release in between first")]
    TooOld { from: Version, running: Version },
    #[error("its image has {size} bytes, a slot has {capacity}")]
    TooLarge { size: u64, capacity: u64 },
    #[error("slot.size: expected a multiple of 512, more than 0")]
    Size,
    #[error("slot.sha256: expected 64 hexadecimal digits")]
    Hash,
    #[error("no release key is installed, so no package can be trusted")]
    NoKeys,
    #[error("its signature is not by any release key of this appliance")]
    Signature,
}

impl Policy {
    /// Whether a package with this manifest may be installed here.
    pub fn check(&self, manifest: &Manifest) -> Result<(), Refused> {
        let size = manifest.slot.size;
        let hexadecimal = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if manifest.format != FORMAT {
            Err(Refused::Format(manifest.format))
        } else if manifest.arch != ARCH {
            Err(Refused::Arch(manifest.arch.clone()))
        } else if manifest.version < self.running && !self.downgrade_allowed {
            Err(Refused::Downgrade { version: manifest.version.clone(), running: self.running.clone() })
        } else if manifest.updates_from > self.running {
            Err(Refused::TooOld { from: manifest.updates_from.clone(), running: self.running.clone() })
        } else if size == 0 || !size.is_multiple_of(512) {
            Err(Refused::Size)
        } else if size > self.capacity {
            Err(Refused::TooLarge { size, capacity: self.capacity })
        } else if !hexadecimal(&manifest.slot.sha256) {
            Err(Refused::Hash)
        } else {
            Ok(())
        }
    }
}

/// The public keys that releases are signed with: several, so that keys can change over.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path}, line {line}: expected the base64 of an Ed25519 public key, 32 bytes")]
    Line { path: String, line: usize },
}

impl Keys {
    /// Reads `release.keys`: one key a line, `#` begins a comment. A file that is not there holds no key.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        let name = || path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|line| KeysError::Line { path: name(), line }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(KeysError::Io { path: name(), source }),
        }
    }

    /// The keys of a text, or the number of the line that holds none.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let lines = lines.enumerate().filter(|(_, line)| !line.is_empty());
        lines
            .map(|(number, line)| {
                let bytes = data_encoding::BASE64.decode(line.as_bytes()).ok();
                bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(number + 1)
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The manifest, if one of the keys has signed its bytes.
    pub fn read(&self, manifest: &[u8], signature: &[u8]) -> Result<Manifest, Refused> {
        if self.0.is_empty() {
            return Err(Refused::NoKeys);
        }
        let good = |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(manifest, signature).is_ok();
        if !self.0.iter().any(good) {
            return Err(Refused::Signature);
        }
        serde_json::from_slice(manifest).map_err(|error| Refused::Unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::update::testing::Signer;

    fn manifest(version: &str) -> Manifest {
        let text = format!(
            r#"{{"format":1,"version":"{version}","arch":"{ARCH}","freebsd":"15.1-RELEASE",
                "slot":{{"size":4096,"sha256":"{}"}},"updates_from":"0.1.0","notes":""}}"#,
            "ab".repeat(32)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn keys_are_several_and_each_of_them_counts() {
        let (old, new, foreign) = (Signer::new(), Signer::new(), Signer::new());
        let text = format!("# keys\n{}\n\n{} # next year's\n", old.public(), new.public());
        let keys = Keys::parse(&text).unwrap();
        let bytes = serde_json::to_vec(&manifest("0.2.0")).unwrap();
        for signer in [&old, &new] {
            assert_eq!(keys.read(&bytes, &signer.sign(&bytes)).unwrap().version, Version::new(0, 2, 0));
        }
        assert_eq!(keys.read(&bytes, &foreign.sign(&bytes)), Err(Refused::Signature));
        assert_eq!(keys.read(&bytes[1..], &old.sign(&bytes)), Err(Refused::Signature));
        assert_eq!(keys.read(&bytes, &[0; 64]), Err(Refused::Signature));
        assert_eq!(Keys::default().read(&bytes, &old.sign(&bytes)), Err(Refused::NoKeys));
        assert_eq!(Keys::parse("# a\nc2hvcnQ=\n").unwrap_err(), 2);
    }

    #[test]
    fn what_may_be_installed() {
        let policy = |running: &str, downgrade_allowed| Policy {
            running: running.parse().unwrap(),
            downgrade_allowed,
            capacity: 4096,
        };
        let told = |manifest: &Manifest, policy: Policy| match policy.check(manifest) {
            Ok(()) => "good".to_owned(),
            Err(refused) => refused.to_string(),
        };
        assert_eq!(told(&manifest("0.2.0"), policy("0.1.0", false)), "good");
        assert!(told(&manifest("0.2.0"), policy("0.3.0", false)).contains("older than the running 0.3.0"));
        assert_eq!(told(&manifest("0.2.0"), policy("0.3.0", true)), "good");
        assert!(told(&manifest("0.2.0-rc.1"), policy("0.2.0", false)).contains("older"));
        assert!(told(&manifest("0.2.0"), policy("0.0.9", false)).contains("0.0.9 is running"));
        assert!(
            told(&Manifest { arch: "riscv64".into(), ..manifest("0.2.0") }, policy("0.1.0", true))
                .contains("it is for riscv64")
        );
        assert!(told(&Manifest { format: 2, ..manifest("0.2.0") }, policy("0.1.0", true)).contains("format"));
        let sized = |size, sha256: &str| Manifest {
            slot: SlotImage { size, sha256: sha256.into() },
            ..manifest("0.2.0")
        };
        let hash = "ab".repeat(32);
        assert!(told(&sized(8192, &hash), policy("0.1.0", true)).contains("a slot has 4096"));
        assert!(told(&sized(4000, &hash), policy("0.1.0", true)).contains("multiple of 512"));
        assert!(told(&sized(4096, "zz"), policy("0.1.0", true)).contains("sha256"));
    }
}
