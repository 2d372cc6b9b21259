//! `manifest.json` of an update package. What an appliance goes by before it writes a byte of the image.

use semver::Version;
use serde::{Deserialize, Serialize};

use super::ReleaseError;

/// The only form there is so far.
const FORMAT: u32 = 1;
const ARCH: &str = "amd64";

/// The document; keys in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Semantic version.
    pub version: String,
    pub arch: String,
    /// The FreeBSD release in the image, `15.1-RELEASE`.
    pub freebsd: String,
    pub slot: SlotImage,
    /// The oldest version that can update to this one.
    pub updates_from: String,
    pub notes: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotImage {
    /// Bytes; a multiple of 512.
    pub size: u64,
    /// Small hexadecimal letters.
    pub sha256: String,
}

impl Manifest {
    pub fn new(
        version: &str,
        freebsd: &str,
        slot: SlotImage,
        updates_from: &str,
        notes: &str,
    ) -> Result<Self, ReleaseError> {
        let manifest = Self {
            format: FORMAT,
            version: version.to_owned(),
            arch: ARCH.to_owned(),
            freebsd: freebsd.to_owned(),
            slot,
            updates_from: updates_from.to_owned(),
            notes: notes.to_owned(),
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// What is signed.
    pub fn to_json(&self) -> Result<Vec<u8>, ReleaseError> {
        serde_json::to_vec(self).map_err(|error| ReleaseError::Manifest(error.to_string()))
    }

    pub fn parse(json: &[u8]) -> Result<Self, ReleaseError> {
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| ReleaseError::Manifest(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ReleaseError> {
        let wrong = |what: &str| Err(ReleaseError::Manifest(what.to_owned()));
        if self.format != FORMAT {
            return wrong("format: expected 1");
        }
        if self.arch != ARCH {
            return wrong("arch: expected amd64");
        }
        if self.slot.size == 0 || !self.slot.size.is_multiple_of(512) {
            return wrong("slot.size: expected a multiple of 512, more than 0");
        }
        let is_hash = self.slot.sha256.len() == 64
            && self.slot.sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !is_hash {
            return wrong("slot.sha256: expected 64 small hexadecimal letters");
        }
        let version = |text: &str| Version::parse(text).map_err(|_| ReleaseError::Version(text.to_owned()));
        if version(&self.updates_from)? > version(&self.version)? {
            return Err(ReleaseError::Order {
                from: self.updates_from.clone(),
                version: self.version.clone(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn slot() -> SlotImage {
        SlotImage { size: 1024, sha256: "ab".repeat(32) }
    }

    #[test]
    fn the_document_is_as_appliances_read_it() {
        let manifest = Manifest::new("0.2.0", "15.1-RELEASE", slot(), "0.1.0", "").unwrap();
        let json = manifest.to_json().unwrap();
        let expected = format!(
            r#"{{"format":1,"version":"0.2.0","arch":"amd64","freebsd":"15.1-RELEASE","slot":{{"size":1024,"sha256":"{}"}},"updates_from":"0.1.0","notes":""}}"#,
            "ab".repeat(32)
        );
        assert_eq!(String::from_utf8(json.clone()).unwrap(), expected);
        assert_eq!(Manifest::parse(&json).unwrap(), manifest);
    }

    #[test]
    fn what_no_appliance_would_take_is_not_made() {
        let made =
            |version: &str, from: &str| Manifest::new(version, "15.1-RELEASE", slot(), from, "").is_ok();
        assert!(made("0.2.0", "0.2.0") && made("1.0.0", "1.0.0-rc.1"));
        assert!(
            !made("0.2", "0.1.0")
                && !made("0.2.0", "x")
                && !made("0.2.0", "0.10.0")
                && !made("1.0.0-rc.1", "1.0.0")
        );
        let odd = SlotImage { size: 1000, ..slot() };
        assert!(Manifest::new("0.2.0", "", odd, "0.1.0", "").is_err());
    }
}
