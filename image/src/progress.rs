//! Progress on the terminal, and none where there is no terminal; and the hashing that such bars are shown for.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use ring::digest::{Context, SHA256};

use crate::tool::{Error, file};

/// A bar for so many bytes.
pub fn bytes(total: Option<u64>, what: &str) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let form = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar
}

/// A bar for a whole file.
pub fn bar(path: &Path, what: &str) -> Result<ProgressBar, Error> {
    let size = fs::metadata(path).map_err(file(path))?.len();
    Ok(bytes(Some(size), what))
}

/// Moves a bar to how far something has come.
pub fn to(bar: &ProgressBar) -> impl Fn(u64) + 'static {
    let bar = bar.clone();
    move |position| bar.set_position(position)
}

/// The SHA-256 of a file, in small hexadecimal letters.
pub fn sha256(path: &Path) -> Result<String, Error> {
    let bar = bar(path, &format!("{}: SHA-256", path.file_name().unwrap_or_default().to_string_lossy()))?;
    let mut opened = File::open(path).map_err(file(path))?;
    let hash = hash(&mut opened, &to(&bar)).map_err(file(path))?;
    bar.finish_and_clear();
    Ok(hash)
}

/// The SHA-256 of what a reader gives, in small hexadecimal letters.
pub fn hash(from: &mut dyn Read, watch: &dyn Fn(u64)) -> std::io::Result<String> {
    let mut context = Context::new(&SHA256);
    let (mut buffer, mut done) = (vec![0; 256 * 1024], 0);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(hexadecimal(context.finish().as_ref()));
        }
        context.update(&buffer[..count]);
        done += count as u64;
        watch(done);
    }
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
