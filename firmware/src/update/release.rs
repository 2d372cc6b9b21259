//! The release document: JSON as GitHub's `releases/latest` gives it, from a server of the administrator's choice
//! (contract/updates.md §3.2). What it says decides nothing but what is offered: the signature in the package counts.

use std::time::Duration;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::manifest::ARCH;
use crate::platform::fetch::{self, FetchError, Fetched, Limits, Validators};

/// Where releases are looked for unless the configuration says otherwise.
pub const DEFAULT_URL: &str = "https://api.github.com/repos/ZerosAndOnesLLC/AiFw/releases/latest";
/// By this name the updater asks.
pub const USER_AGENT: &str = "AiFw-Updater";
const LIMITS: Limits = Limits { bytes: 2 * 1024 * 1024, time: Duration::from_secs(60), inside_allowed: true };
/// A line of the notes with this asks for a reboot.
const REBOOT_MARK: &str = "[reboot-recommended]";

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{url}: expected a release document: {reason}")]
    Form { url: String, reason: String },
}

/// A release as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub version: Version,
    pub notes: String,
    /// As the document says it; empty where it does not.
    pub published_at: String,
    /// The package for this machine's architecture.
    pub tarball_url: Option<String>,
    pub checksum_url: Option<String>,
}

/// The part of the document that is used.
#[derive(Deserialize)]
struct Document {
    tag_name: String,
    body: Option<String>,
    published_at: Option<String>,
    #[serde(default)]
    assets: Vec<Asset>,
}

#[derive(Deserialize)]
struct Asset {
    name: String,
    browser_download_url: String,
}

impl Release {
    /// Asks the server. Blocks, a minute at most.
    pub fn fetch(url: &str) -> Result<Self, ReleaseError> {
        match fetch::fetch_as(USER_AGENT, url, &Validators::default(), LIMITS)? {
            Fetched::Document { body, .. } => Self::parse(url, &body),
            Fetched::NotModified => {
                Err(ReleaseError::Form { url: url.into(), reason: "the server sent none (304)".into() })
            }
        }
    }

    /// Reads a document that `url` gave; addresses in it may be relative to that.
    pub fn parse(url: &str, body: &[u8]) -> Result<Self, ReleaseError> {
        let form = |reason: String| ReleaseError::Form { url: url.to_owned(), reason };
        let document: Document = serde_json::from_slice(body).map_err(|error| form(error.to_string()))?;
        let tag = document.tag_name.trim();
        let version = tag.strip_prefix('v').unwrap_or(tag);
        let version = Version::parse(version)
            .map_err(|error| form(format!("tag_name {tag:?}: expected a version as v1.2.3: {error}")))?;
        let package = format!("aifw-update-{version}-{ARCH}.tar.xz");
        let base = url::Url::parse(url).ok();
        let asset = |name: &str| {
            let found = document.assets.iter().find(|asset| asset.name == name)?;
            match &base {
                Some(base) => base.join(&found.browser_download_url).ok().map(String::from),
                None => Some(found.browser_download_url.clone()),
            }
        };
        Ok(Self {
            tarball_url: asset(&package),
            checksum_url: asset(&format!("{package}.sha256")),
            version,
            notes: document.body.unwrap_or_default(),
            published_at: document.published_at.unwrap_or_default(),
        })
    }
}

/// Whether notes ask for a reboot, and the reason that they give.
pub fn reboot_mark(notes: &str) -> (bool, Option<String>) {
    let rest = notes.lines().find_map(|line| line.split_once(REBOOT_MARK)).map(|(_, rest)| rest.trim());
    (rest.is_some(), rest.filter(|rest| !rest.is_empty()).map(str::to_owned))
}

/// The SHA-256 of a side file in any of its three forms: `SHA256 (NAME) = HEX`, `HEX  NAME`, `HEX`. Lower case.
pub fn checksum(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let hex = match line.split_once(" = ") {
        Some((name, hex)) if name.starts_with("SHA256") => hex.trim(),
        _ => line.split_whitespace().next()?,
    };
    let good = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| hex.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_document_of_github() {
        let name = format!("aifw-update-9.9.9-{ARCH}.tar.xz");
        let text = format!(
            r#"{{"tag_name":"v9.9.9","name":"x","draft":false,"body":"first\n[reboot-recommended] new kernel\n",
                "published_at":"2026-11-01T00:00:00Z","assets":[
                {{"name":"aifw-update-9.9.9-riscv64.tar.xz","browser_download_url":"https://a.example/no"}},
                {{"name":"{name}","browser_download_url":"https://a.example/yes","size":1}},
                {{"name":"{name}.sha256","browser_download_url":"/sum"}}]}}"#
        );
        let release = Release::parse("https://b.example/repos/latest", text.as_bytes()).unwrap();
        assert_eq!(release.version, Version::new(9, 9, 9));
        assert_eq!(release.tarball_url.as_deref(), Some("https://a.example/yes"));
        assert_eq!(release.checksum_url.as_deref(), Some("https://b.example/sum"));
        assert_eq!(release.published_at, "2026-11-01T00:00:00Z");
        assert_eq!(reboot_mark(&release.notes), (true, Some("new kernel".into())));
        assert_eq!(reboot_mark("x [reboot-recommended] "), (true, None));
        assert_eq!(reboot_mark("reboot"), (false, None));
        for bad in ["", "<html>", "{}", r#"{"tag_name":"latest"}"#, r#"{"tag_name":7}"#] {
            let refused = Release::parse("https://b.example/x", bad.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains("expected a release document"), "{refused}");
        }
    }

    #[test]
    fn b12_forms_of_a_checksum() {
        let hex = "AB".repeat(32);
        let expected = Some(hex.to_ascii_lowercase());
        assert_eq!(checksum(&format!("SHA256 (aifw-update-1.0.0-amd64.tar.xz) = {hex}\n")), expected);
        assert_eq!(checksum(&format!("{hex}  aifw-update-1.0.0-amd64.tar.xz\n")), expected);
        assert_eq!(checksum(&format!("\n{hex}")), expected);
        for bad in ["", "abc", &format!("MD5 (x) = {hex}"), &format!("{hex}0")] {
            assert_eq!(checksum(bad), None, "{bad}");
        }
    }
}
