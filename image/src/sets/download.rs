//! Downloads of FreeBSD's own files: resumed where a broken one ended, checked, and kept in the user's cache
//! (`aifw/freebsd`) under the address they came from.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::components;
use crate::progress;
use crate::tool::{Error, file};

/// Why a file was not had from a mirror. The message names the way without a network.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(
        "{url} does not answer ({reason}); where there is no network, give FreeBSD's base.txz and kernel.txz with --sets DIR"
    )]
    NoAnswer { url: String, reason: String },
    #[error("{url}: the SHA-256 of what came is {found}, but MANIFEST has {expected}; it was thrown away")]
    Hash { url: String, found: String, expected: String },
    #[error("{0}: a mirror's address begins with http:// or https://")]
    Address(String),
}

impl From<DownloadError> for Error {
    fn from(error: DownloadError) -> Self {
        Self::Download(Box::new(error))
    }
}

/// The directory of the cache that belongs to an address.
pub fn cache(url: &str) -> Result<PathBuf, Error> {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Err(DownloadError::Address(url.to_owned()).into());
    };
    let name: String = rest
        .trim_end_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    Ok(components::cache()?.join("freebsd").join(name))
}

/// Has a file of an address in the cache. With its hash, one that is there is not asked for again, and a partial
/// one is continued; without, it is fetched anew.
pub fn fetch(address: &str, name: &str, directory: &Path, sha256: Option<&str>) -> Result<PathBuf, Error> {
    fs::create_dir_all(directory).map_err(file(directory))?;
    let target = directory.join(name);
    let url = format!("{}/{name}", address.trim_end_matches('/'));
    if let Some(expected) = sha256
        && target.is_file()
    {
        if progress::sha256(&target)? == expected {
            return Ok(target);
        }
        fs::remove_file(&target).map_err(file(&target))?;
    }
    let partial = directory.join(format!("{name}.partial"));
    if sha256.is_none() && partial.exists() {
        fs::remove_file(&partial).map_err(file(&partial))?;
    }
    let mut tries = 0;
    // A line that breaks is taken up again as long as it brings something.
    while let Err(reason) = continue_download(&url, &partial) {
        let size = fs::metadata(&partial).map_or(0, |data| data.len());
        tries = if size > reason.had { 0 } else { tries + 1 };
        if tries > 2 || reason.is_final {
            return Err(DownloadError::NoAnswer { url, reason: reason.text }.into());
        }
    }
    if let Some(expected) = sha256 {
        let found = progress::sha256(&partial)?;
        if found != expected {
            fs::remove_file(&partial).map_err(file(&partial))?;
            return Err(DownloadError::Hash { url, found, expected: expected.to_owned() }.into());
        }
    }
    fs::rename(&partial, &target).map_err(file(&target))?;
    Ok(target)
}

struct Broken {
    had: u64,
    text: String,
    /// Asking again would get the same.
    is_final: bool,
}

/// Appends what is missing to a partial file.
fn continue_download(url: &str, partial: &Path) -> Result<(), Broken> {
    let had = fs::metadata(partial).map_or(0, |data| data.len());
    let broken = |is_final: bool, text: String| Broken { had, text, is_final };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent.get(url).header("accept-encoding", "identity");
    if had > 0 {
        request = request.header("range", format!("bytes={had}-"));
    }
    let mut response = request.call().map_err(|error| {
        let again = matches!(&error, ureq::Error::Io(_) | ureq::Error::Timeout(_)) && had > 0;
        broken(!again, error.to_string())
    })?;
    let status = response.status().as_u16();
    let appends = match status {
        200 => false,
        206 => true,
        // Nothing is left to send: the file is whole, or of another version; its hash will tell.
        416 => return Ok(()),
        _ => return Err(broken(true, format!("HTTP status {status}"))),
    };
    let length =
        response.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let begin = if appends { had } else { 0 };
    let mut out = File::options()
        .create(true)
        .write(true)
        .append(appends)
        .truncate(!appends)
        .open(partial)
        .map_err(|error| broken(true, error.to_string()))?;
    let bar = progress::bytes(length.map(|length| length + begin), url);
    bar.set_position(begin);
    let mut reader = response.body_mut().as_reader();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(false, error.to_string())),
        };
        out.write_all(&buffer[..count]).map_err(|error| broken(true, error.to_string()))?;
        bar.inc(count as u64);
    }
    bar.finish_and_clear();
    match length {
        Some(length) if fs::metadata(partial).map_or(0, |data| data.len()) < begin + length => {
            Err(broken(false, "the connection was closed early".into()))
        }
        _ => Ok(()),
    }
}
