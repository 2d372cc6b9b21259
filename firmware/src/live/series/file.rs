//! The series on disk, so that charts survive a restart: one file, replaced as a whole, that says its version
//! and carries a checksum. A file that is damaged or of another version is ignored, never half read.
//!
//! `AIFWSERIES` · version (u32) · SHA-256 of the rest · zlib stream of the body. Numbers are little-endian.
//! Body: for each of the four tiers its number of points, their times (u32), and for each series its name
//! and its columns; then the three unfinished intervals.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use ring::digest::{SHA256, digest};

use super::column::Column;
use super::fold::Folded;
use super::{Name, SeriesStore};

const MAGIC: &[u8; 10] = b"AIFWSERIES";
const VERSION: u32 = 1;
const HEAD: usize = MAGIC.len() + 4 + 32;
/// Far more than full rings take (7 MB): a damaged length must not ask for memory without bound.
const LARGEST_BODY: u64 = 64 * 1024 * 1024;

/// Why a file of series could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("not a file of series")]
    Magic,
    #[error("version {0} is not known here")]
    Version(u32),
    #[error("the checksum is wrong")]
    Checksum,
    #[error("the content is damaged")]
    Damaged,
}

/// The state of a store as bytes, taken while it is locked; [`write`] does the slow rest.
pub fn encode(store: &SeriesStore) -> Vec<u8> {
    let mut body = Vec::with_capacity(store.heap_bytes() + 4096);
    for tier in &store.tiers {
        put(&mut body, tier.times.len() as u32);
        tier.times.iter().for_each(|t| put(&mut body, *t));
        for (name, track) in Name::ALL.iter().zip(&tier.tracks) {
            put_name(&mut body, *name);
            put_column(&mut body, &track.v);
            if let Some((min, max)) = &track.range {
                put_column(&mut body, min);
                put_column(&mut body, max);
            }
        }
    }
    for fold in &store.folds {
        [fold.taken, fold.first, fold.last].into_iter().for_each(|number| put(&mut body, number));
        for (name, folded) in Name::ALL.iter().zip(&fold.row) {
            put_name(&mut body, *name);
            put(&mut body, folded.samples);
            [folded.v, folded.min, folded.max]
                .into_iter()
                .for_each(|value| body.extend_from_slice(&value.to_le_bytes()));
        }
    }
    body
}

/// Replaces the file at `path` by the encoded series: the old one stays until the new one is on the disk.
pub fn write(path: &Path, body: &[u8]) -> Result<(), FileError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    let packed = encoder.finish()?;
    let next = path.with_extension("new");
    let mut file = File::create(&next)?;
    file.write_all(MAGIC)?;
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(digest(&SHA256, &packed).as_ref())?;
    file.write_all(&packed)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Reads what [`write`] wrote. Points of the future (the clock was set back) are dropped, as are series that
/// this build does not know; the gap between then and now stays a gap.
pub fn read(path: &Path, now: u32) -> Result<SeriesStore, FileError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_BODY).read_to_end(&mut bytes)?;
    if bytes.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
        return Err(FileError::Magic);
    }
    let mut version = Reader(&bytes[MAGIC.len()..]);
    let version = version.number()?;
    if version != VERSION {
        return Err(FileError::Version(version));
    }
    let packed = bytes.get(HEAD..).ok_or(FileError::Damaged)?;
    if digest(&SHA256, packed).as_ref() != &bytes[MAGIC.len() + 4..HEAD] {
        return Err(FileError::Checksum);
    }
    let mut body = Vec::new();
    ZlibDecoder::new(packed).take(LARGEST_BODY).read_to_end(&mut body).map_err(|_| FileError::Damaged)?;
    let mut store = decode(&body)?;
    // Seconds are rounded, so the newest may lie half a second ahead.
    let future = now.saturating_add(2);
    store.tiers.iter_mut().for_each(|tier| tier.forget_from(future));
    store.folds.iter_mut().for_each(|fold| fold.forget_from(future));
    Ok(store)
}

fn decode(body: &[u8]) -> Result<SeriesStore, FileError> {
    let mut reader = Reader(body);
    let mut store = SeriesStore::default();
    for tier in &mut store.tiers {
        let points = reader.length()?;
        if points > tier.spec().capacity {
            return Err(FileError::Damaged);
        }
        for _ in 0..points {
            tier.times.push_back(reader.number()?);
        }
        let has_range = tier.spec().interval_secs > 1;
        for _ in 0..Name::ALL.len() {
            let name = reader.name()?;
            let v = reader.column(points)?;
            let range = if has_range { Some((reader.column(points)?, reader.column(points)?)) } else { None };
            if let Some(name) = name {
                let track = &mut tier.tracks[name as usize];
                (track.v, track.range) = (v, range);
            }
        }
    }
    for fold in &mut store.folds {
        (fold.taken, fold.first, fold.last) = (reader.number()?, reader.number()?, reader.number()?);
        for _ in 0..Name::ALL.len() {
            let name = reader.name()?;
            let samples = reader.number()?;
            let folded = Folded { samples, v: reader.float()?, min: reader.float()?, max: reader.float()? };
            if let Some(name) = name {
                fold.row[name as usize] = folded;
            }
        }
    }
    if reader.0.is_empty() { Ok(store) } else { Err(FileError::Damaged) }
}

fn put(body: &mut Vec<u8>, number: u32) {
    body.extend_from_slice(&number.to_le_bytes());
}

fn put_name(body: &mut Vec<u8>, name: Name) {
    put(body, name.as_str().len() as u32);
    body.extend_from_slice(name.as_str().as_bytes());
}

/// Width in bytes of a value, number of values, values.
fn put_column(body: &mut Vec<u8>, column: &Column) {
    match column {
        Column::Narrow(ring) => {
            put(body, 4);
            put(body, ring.len() as u32);
            ring.iter().for_each(|value| body.extend_from_slice(&value.to_le_bytes()));
        }
        Column::Wide(ring) => {
            put(body, 8);
            put(body, ring.len() as u32);
            ring.iter().for_each(|value| body.extend_from_slice(&value.to_le_bytes()));
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], FileError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(FileError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }
    fn number(&mut self) -> Result<u32, FileError> {
        self.bytes(4)?.try_into().map(u32::from_le_bytes).map_err(|_| FileError::Damaged)
    }
    fn length(&mut self) -> Result<usize, FileError> {
        self.number().map(|number| number as usize)
    }
    fn float(&mut self) -> Result<f64, FileError> {
        self.bytes(8)?.try_into().map(f64::from_le_bytes).map_err(|_| FileError::Damaged)
    }
    /// `None` = a name that this build does not know.
    fn name(&mut self) -> Result<Option<Name>, FileError> {
        let length = self.length()?;
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| FileError::Damaged)?;
        Ok(text.parse().ok())
    }
    fn column(&mut self, points: usize) -> Result<Column, FileError> {
        let width = self.length()?;
        let length = self.length()?;
        if length > points {
            return Err(FileError::Damaged);
        }
        let bytes = self.bytes(width.saturating_mul(length))?;
        match width {
            4 => Ok(Column::Narrow(
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            )),
            8 => Ok(Column::Wide(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())),
            _ => Err(FileError::Damaged),
        }
    }
}
