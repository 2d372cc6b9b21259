//! UFS1 (fs(5), `sys/ufs/ffs/fs.h`), read back from an image: what makefs(8) wrote is looked at with other eyes
//! before it is shipped, and what a slot holds is told without mounting it. Little-endian only, as amd64 writes it.
//! Called by `inspect` and `verify`, and by `slot`, which fills an empty one.

mod fill;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use fill::fill;

/// Why these bytes are no file system that can be read.
#[derive(Debug, thiserror::Error)]
pub enum UfsError {
    #[error("no UFS1 file system: {0}")]
    NotUfs(&'static str),
    #[error("the file system is damaged: {0}")]
    Damaged(String),
    #[error("it has not enough {0}")]
    Full(&'static str),
    #[error("{0}: no such file")]
    NotFound(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

const SUPERBLOCK_AT: u64 = 8192;
const SUPERBLOCK_SIZE: usize = 1376;
const MAGIC: u32 = 0x0001_1954;
const ROOT: u32 = 2;
const INODE_SIZE: u64 = 128;
/// `fs_ocsp` and the pointers after it: addresses in the memory of whoever wrote the superblock, never read from
/// a disk.
const POINTERS: std::ops::Range<u64> = 728..856;

/// The file system in a part of an image.
#[derive(Debug)]
pub struct Ufs<'a> {
    image: &'a File,
    offset: u64,
    fragment: u64,
    block: u64,
    cg_offset: u32,
    cg_mask: u32,
    groups: u32,
    fragments_per_group: u64,
    inodes_per_group: u32,
    inode_blocks_at: u64,
    superblock_at: u64,
    fragments: u64,
    short_link: u64,
}

/// A file's kind, from `di_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Directory,
    File,
    Link,
    Other,
}

/// One file as its inode has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    pub number: u32,
    pub kind: FileKind,
    /// Permission bits: 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub size: u64,
    /// Modified, seconds since 1970.
    pub time: u32,
    direct: [u32; 12],
    indirect: [u32; 3],
    raw: [u8; 60],
}

impl<'a> Ufs<'a> {
    /// Reads the superblock of the file system that begins at `offset` of the image.
    pub fn open(image: &'a File, offset: u64) -> Result<Self, UfsError> {
        let mut bytes = [0; SUPERBLOCK_SIZE];
        image.read_exact_at(&mut bytes, offset + SUPERBLOCK_AT)?;
        let word = |at: usize| u32_at(&bytes, at);
        if word(1372) != MAGIC {
            return Err(UfsError::NotUfs("no magic number where UFS1 has it"));
        }
        let (block, fragment, per_block) = (word(48), word(52), word(56));
        let sane = block.is_power_of_two()
            && (4096..=65536).contains(&block)
            && fragment.is_power_of_two()
            && fragment >= 512
            && fragment.checked_mul(per_block) == Some(block)
            && word(184) > 0
            && word(188) > 0;
        if !sane {
            return Err(UfsError::NotUfs("its block sizes make no sense"));
        }
        Ok(Self {
            image,
            offset,
            fragment: fragment.into(),
            block: block.into(),
            cg_offset: word(24),
            cg_mask: word(28),
            groups: word(44),
            fragments_per_group: word(188).into(),
            inodes_per_group: word(184),
            inode_blocks_at: word(16).into(),
            superblock_at: word(8).into(),
            fragments: word(36).into(),
            short_link: word(1320).into(),
        })
    }

    /// Bytes of the whole file system.
    pub fn size(&self) -> u64 {
        self.fragments * self.fragment
    }

    /// Where the superblock and its copies begin, in bytes from the file system's begin.
    fn superblocks(&self) -> impl Iterator<Item = u64> {
        let copy = |group: u32| (self.group_start(group) + self.superblock_at) * self.fragment;
        std::iter::once(SUPERBLOCK_AT).chain((0..self.groups).map(copy))
    }

    /// Sets to zero what the writer left of its own memory, which differs from build to build. The image must be
    /// open for writing.
    pub fn forget_pointers(&self) -> Result<(), UfsError> {
        let zero = vec![0; (POINTERS.end - POINTERS.start) as usize];
        for at in self.superblocks() {
            let mut magic = [0; 4];
            self.image.read_exact_at(&mut magic, self.offset + at + 1372)?;
            if u32::from_le_bytes(magic) != MAGIC {
                return Err(UfsError::Damaged(format!("no superblock at {at}")));
            }
            self.image.write_all_at(&zero, self.offset + at + POINTERS.start)?;
        }
        Ok(())
    }

    /// The first fragment of a cylinder group's own blocks (`cgstart` of fs.h, as UFS1 has it).
    fn group_start(&self, group: u32) -> u64 {
        u64::from(group) * self.fragments_per_group + u64::from(self.cg_offset * (group & !self.cg_mask))
    }

    /// Where an inode lies in the image.
    fn inode_at(&self, number: u32) -> Result<u64, UfsError> {
        let group = number / self.inodes_per_group;
        if group >= self.groups {
            return Err(UfsError::Damaged(format!("inode {number} is in no cylinder group")));
        }
        let first = (self.group_start(group) + self.inode_blocks_at) * self.fragment;
        Ok(self.offset + first + u64::from(number % self.inodes_per_group) * INODE_SIZE)
    }

    fn inode(&self, number: u32) -> Result<Inode, UfsError> {
        let at = self.inode_at(number)?;
        let mut bytes = [0; INODE_SIZE as usize];
        self.image.read_exact_at(&mut bytes, at)?;
        let mode = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let kind = match mode & 0o170_000 {
            0o040_000 => FileKind::Directory,
            0o100_000 => FileKind::File,
            0o120_000 => FileKind::Link,
            _ => FileKind::Other,
        };
        let mut raw = [0; 60];
        raw.copy_from_slice(&bytes[40..100]);
        Ok(Inode {
            number,
            kind,
            mode: mode & 0o7777,
            uid: u32_at(&bytes, 112),
            gid: u32_at(&bytes, 116),
            links: u16::from_le_bytes([bytes[2], bytes[3]]).into(),
            size: u64::from(u32_at(&bytes, 8)) | u64::from(u32_at(&bytes, 12)) << 32,
            time: u32_at(&bytes, 24),
            direct: std::array::from_fn(|at| u32_at(&bytes, 40 + 4 * at)),
            indirect: std::array::from_fn(|at| u32_at(&bytes, 88 + 4 * at)),
            raw,
        })
    }

    /// The contents of a file, or the entries of a directory as they lie on the disk.
    pub fn contents(&self, inode: &Inode) -> Result<Vec<u8>, UfsError> {
        if inode.size > self.size() {
            return Err(UfsError::Damaged(format!("inode {} claims {} bytes", inode.number, inode.size)));
        }
        let mut bytes = Vec::with_capacity(inode.size as usize);
        let blocks = inode.size.div_ceil(self.block);
        for place in 0..blocks {
            let left = inode.size - place * self.block;
            let length = left.min(self.block) as usize;
            let fragment = self.fragment_of(inode, place)?;
            let start = bytes.len();
            bytes.resize(start + length, 0);
            if fragment != 0 {
                let at = self.offset + u64::from(fragment) * self.fragment;
                self.image.read_exact_at(&mut bytes[start..], at)?;
            }
        }
        Ok(bytes)
    }

    /// The first fragment of a file's block; 0 = a hole.
    fn fragment_of(&self, inode: &Inode, place: u64) -> Result<u32, UfsError> {
        let pointers = self.block / 4;
        if let Some(direct) = usize::try_from(place).ok().and_then(|place| inode.direct.get(place)) {
            return Ok(*direct);
        }
        let mut place = place - inode.direct.len() as u64;
        let mut span = pointers;
        for (level, &begin) in inode.indirect.iter().enumerate() {
            if place < span {
                let mut fragment = begin;
                for depth in (0..=level).rev() {
                    if fragment == 0 {
                        return Ok(0);
                    }
                    let index = (place / pointers.pow(depth as u32)) % pointers;
                    let mut word = [0; 4];
                    let at = self.offset + u64::from(fragment) * self.fragment + index * 4;
                    self.image.read_exact_at(&mut word, at)?;
                    fragment = u32::from_le_bytes(word);
                }
                return Ok(fragment);
            }
            place -= span;
            span *= pointers;
        }
        Err(UfsError::Damaged(format!("inode {} is too long", inode.number)))
    }

    /// Where a symbolic link leads.
    pub fn link(&self, inode: &Inode) -> Result<String, UfsError> {
        let bytes = if inode.size < self.short_link.min(60) {
            inode.raw[..inode.size as usize].to_vec()
        } else {
            self.contents(inode)?
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names and inode numbers in a directory, without `.` and `..`.
    fn names(&self, directory: &Inode) -> Result<Vec<(String, u32)>, UfsError> {
        let bytes = self.contents(directory)?;
        let damaged = || UfsError::Damaged(format!("directory {} has a broken entry", directory.number));
        let (mut names, mut at) = (Vec::new(), 0);
        while at + 8 <= bytes.len() {
            let number = u32_at(&bytes, at);
            let length = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
            let name_length = usize::from(bytes[at + 7]);
            if length < 8 || at + length > bytes.len() || 8 + name_length > length {
                return Err(damaged());
            }
            let name = String::from_utf8_lossy(&bytes[at + 8..at + 8 + name_length]).into_owned();
            if number != 0 && name != "." && name != ".." {
                names.push((name, number));
            }
            at += length;
        }
        names.sort();
        Ok(names)
    }

    /// Every file by its path from the root, which itself is `.`.
    pub fn walk(&self) -> Result<Vec<(String, Inode)>, UfsError> {
        let root = self.inode(ROOT)?;
        if root.kind != FileKind::Directory {
            return Err(UfsError::Damaged("its root is no directory".into()));
        }
        let mut found = vec![(".".to_owned(), root.clone())];
        let mut open = vec![(String::new(), root)];
        while let Some((path, directory)) = open.pop() {
            for (name, number) in self.names(&directory)? {
                let inode = self.inode(number)?;
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                if path.len() > 4096 {
                    return Err(UfsError::Damaged("its directories go round in a circle".into()));
                }
                if inode.kind == FileKind::Directory {
                    open.push((path.clone(), inode.clone()));
                }
                found.push((path, inode));
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// The inode of a path (without a leading slash); symbolic links are not followed.
    pub fn find(&self, path: &str) -> Result<Inode, UfsError> {
        let mut inode = self.inode(ROOT)?;
        for wanted in path.split('/') {
            let names = if inode.kind == FileKind::Directory { self.names(&inode)? } else { Vec::new() };
            let number = names.into_iter().find_map(|(name, number)| (name == wanted).then_some(number));
            inode = self.inode(number.ok_or_else(|| UfsError::NotFound(path.to_owned()))?)?;
        }
        Ok(inode)
    }

    /// The contents of the file of a path.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, UfsError> {
        self.contents(&self.find(path)?)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_le_bytes(*four))
}
