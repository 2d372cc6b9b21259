//! `cargo image tarball`: the signed update package, from slot A of an image that was built before: what is
//! published as an update is what the image has, byte for byte.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use semver::Version;

use crate::build;
use crate::inspect::Opened;
use crate::progress;
use crate::release::{self, Manifest, SigningKey, SlotImage};
use crate::slot;
use crate::tool::{Error, file};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The signing key, as `cargo image keygen` or `openssl genpkey -algorithm ed25519` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The image (raw) whose slot A is published; without, the one that `cargo image build` put into target/image
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The oldest version that can update to this one; without, this one's first patch release
    #[arg(long, value_name = "VERSION")]
    updates_from: Option<Version>,
    /// What is new, for people
    #[arg(long, default_value = "")]
    notes: String,
    /// Directory for the package; without, the image's
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// The command of that name.
pub fn run_command(arguments: &Arguments) -> Result<(), Error> {
    let key = SigningKey::load(&arguments.key)?;
    let image = match &arguments.image {
        Some(image) => image.clone(),
        None => {
            let version = Version::parse(env!("CARGO_PKG_VERSION"));
            let version =
                version.map_err(|_| release::ReleaseError::Version(env!("CARGO_PKG_VERSION").into()))?;
            build::output_directory().join(build::image_name(&version))
        }
    };
    let opened = Opened::image(&image)?;
    let facts = opened.facts("slot-a")?;
    let output = arguments.output.clone().or_else(|| image.parent().map(PathBuf::from)).unwrap_or_default();
    fs::create_dir_all(&output).map_err(file(&output))?;

    // The file system alone: the rest of the partition is empty.
    let slot = output.join(format!(".slot-{}.img", facts.version));
    let copied = copy(&opened, &facts.part, facts.size, &slot);
    let written = copied.and_then(|sha256| {
        let version = Version::parse(&facts.version);
        let version = version.map_err(|_| release::ReleaseError::Version(facts.version.clone()))?;
        let from = arguments.updates_from.clone().unwrap_or_else(|| first_of(&version));
        let image = SlotImage { size: facts.size, sha256 };
        let manifest =
            Manifest::new(&facts.version, &facts.freebsd, image, &from.to_string(), &arguments.notes)?;
        let path = output.join(release::name(&facts.version));
        let hash = release::write(&path, &manifest, &key, &slot)?;
        Ok((path, hash))
    });
    if slot.exists() {
        fs::remove_file(&slot).map_err(file(&slot))?;
    }
    let (path, hash) = written?;
    let size = fs::metadata(&path).map_err(file(&path))?.len();
    println!("{}: {}, SHA-256 {hash}", path.display(), slot::mebibytes(size));
    println!("signed by {}", key.public());
    Ok(())
}

/// The first version of a series: 0.1.0 for 0.1.7, and for 0.2.0 the series before, as a release updates from the
/// series before it.
fn first_of(version: &Version) -> Version {
    let minor = if version.patch == 0 { version.minor.saturating_sub(1) } else { version.minor };
    Version::new(version.major, minor, 0)
}

fn copy(opened: &Opened, part: &crate::disk::Part, size: u64, to: &std::path::Path) -> Result<String, Error> {
    let mut image = opened.file.try_clone().map_err(file(&opened.path))?;
    image.seek(SeekFrom::Start(part.offset())).map_err(file(&opened.path))?;
    let mut out = File::create(to).map_err(file(to))?;
    crate::disk::copy_sparse(&mut image.take(size), &mut out).map_err(file(to))?;
    out.set_len(size).map_err(file(to))?;
    progress::sha256(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_updates_from_the_series_before_it() {
        let first = |text: &str| Version::parse(text).map(|version| first_of(&version).to_string());
        for (version, from) in
            [("0.1.7", "0.1.0"), ("0.2.0", "0.1.0"), ("0.1.0", "0.0.0"), ("1.0.0", "1.0.0")]
        {
            assert!(first(version).is_ok_and(|found| found == from), "{version}");
        }
    }
}
