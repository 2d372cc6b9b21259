//! Fills an empty UFS1 file system, as makefs(8) makes one, with the files of a tree. makefs can do that by itself, but
//! then takes the files in the order in which the host's file system happens to list them; here it is the order of
//! their names, so that the same tree gives the same bytes on every host. Where inodes and blocks can be put is read
//! from the file system's own bitmaps; the names are those of `sys/ufs/ffs/fs.h` and `sys/ufs/ufs/dinode.h`.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::{INODE_SIZE, ROOT, SUPERBLOCK_AT, Ufs, UfsError, u32_at};
use crate::tree::{Entry, Kind, Tree};

const CG_MAGIC: u32 = 0x0009_0255;
/// A directory is written in pieces of so many bytes; no entry lies in two of them.
const DIRECTORY_PIECE: usize = 512;
/// Pointers to blocks that an inode has itself.
const DIRECT: usize = 12;
/// Inodes are counted in units of so many bytes.
const SECTOR: u64 = 512;

/// Writes every file of the tree. The image must be open for writing and hold an empty file system.
pub fn fill(system: &Ufs<'_>, tree: &Tree, time: u64) -> Result<(), UfsError> {
    let mut filler = Filler::new(system)?;
    filler.forget_root()?;
    let root = Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, time };
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::from([("", ROOT)]);
    let mut files: HashMap<usize, u32> = HashMap::new();
    let mut links: HashMap<u32, u16> = HashMap::new();
    // Numbers first: a directory names what comes later.
    for (path, entry) in tree.entries() {
        let known = if let Kind::File { blob, .. } = entry.kind { files.get(&blob).copied() } else { None };
        let number = match known {
            Some(number) => number,
            None => filler.inode()?,
        };
        if let Kind::File { blob, .. } = entry.kind {
            files.insert(blob, number);
        }
        *links.entry(number).or_default() += 1;
        numbers.insert(path, number);
    }
    let mut children: BTreeMap<&str, Vec<(&str, u32, u8)>> = BTreeMap::new();
    for (path, entry) in tree.entries() {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        children.entry(parent).or_default().push((name, numbers[path], entry_type(&entry.kind)));
    }
    let mut written: HashMap<u32, ()> = HashMap::new();
    for (path, entry) in std::iter::once(("", &root)).chain(tree.entries()) {
        let number = numbers[path];
        if written.insert(number, ()).is_some() {
            continue;
        }
        match &entry.kind {
            Kind::Directory => {
                let parent = numbers[path.rsplit_once('/').map_or("", |(parent, _)| parent)];
                let inside = children.get(path).map_or(&[][..], Vec::as_slice);
                let bytes = directory(number, parent, inside);
                let below = inside.iter().filter(|(_, _, kind)| *kind == DT_DIR).count();
                filler.count_directory(number);
                filler.write(
                    number,
                    entry,
                    2 + below as u16,
                    &mut bytes.as_slice(),
                    bytes.len() as u64,
                    time,
                )?;
            }
            Kind::File { blob, size } => {
                filler.write(number, entry, links[&number], &mut tree.open(*blob)?, *size, time)?;
            }
            Kind::Link(to) => {
                filler.write(number, entry, 1, &mut to.as_bytes(), to.len() as u64, time)?;
            }
        }
    }
    filler.finish()
}

const DT_DIR: u8 = 4;

/// DT_… of dirent.h.
fn entry_type(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory => DT_DIR,
        Kind::File { .. } => 8,
        Kind::Link(_) => 10,
    }
}

/// A directory's bytes: `struct direct`, the last one of each piece as long as the piece has room.
fn directory(own: u32, parent: u32, inside: &[(&str, u32, u8)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut last = 0;
    for (name, number, kind) in [(".", own, DT_DIR), ("..", parent, DT_DIR)].iter().chain(inside) {
        let length = 8 + (name.len() + 1).next_multiple_of(4);
        let room = bytes.len().next_multiple_of(DIRECTORY_PIECE) - bytes.len();
        if !bytes.is_empty() && length > room {
            stretch(&mut bytes, last);
        }
        last = bytes.len();
        bytes.extend(number.to_le_bytes());
        bytes.extend((length as u16).to_le_bytes());
        bytes.extend([*kind, name.len() as u8]);
        bytes.extend(name.as_bytes());
        bytes.resize(last + length, 0);
    }
    stretch(&mut bytes, last);
    bytes
}

/// Makes the entry at `last` reach to the end of its piece.
fn stretch(bytes: &mut Vec<u8>, last: usize) {
    let end = bytes.len().next_multiple_of(DIRECTORY_PIECE);
    bytes.resize(end, 0);
    let length = (end - last) as u16;
    bytes[last + 4..last + 6].copy_from_slice(&length.to_le_bytes());
}

/// A cylinder group: its block as it lies on the disk.
struct Group {
    at: u64,
    bytes: Vec<u8>,
    inodes_used: usize,
    blocks_free: usize,
    fragments: u64,
    directories: u32,
}

/// Where things have been put so far.
struct Filler<'a> {
    system: &'a Ufs<'a>,
    groups: Vec<Group>,
    per_block: u64,
    next_inode: u32,
    next_block: u64,
    /// Runs of free fragments within one block, by their length: 1 to `per_block` - 1.
    runs: Vec<Vec<u64>>,
}

impl<'a> Filler<'a> {
    fn new(system: &'a Ufs<'a>) -> Result<Self, UfsError> {
        let mut superblock = [0; 1376];
        system.image.read_exact_at(&mut superblock, system.offset + SUPERBLOCK_AT)?;
        let (group_block, group_size) =
            (u64::from(u32_at(&superblock, 12)), u32_at(&superblock, 160) as usize);
        let mut groups = Vec::new();
        for number in 0..system.groups {
            let at = system.offset + (system.group_start(number) + group_block) * system.fragment;
            let mut bytes = vec![0; group_size];
            system.image.read_exact_at(&mut bytes, at)?;
            if u32_at(&bytes, 4) != CG_MAGIC {
                return Err(UfsError::Damaged(format!("no cylinder group {number}")));
            }
            let [inodes_used, blocks_free, fragments] =
                [92, 96, 20].map(|field| u32_at(&bytes, field) as usize);
            let directories = u32_at(&bytes, 24);
            groups.push(Group {
                at,
                bytes,
                inodes_used,
                blocks_free,
                fragments: fragments as u64,
                directories,
            });
        }
        let per_block = system.block / system.fragment;
        let runs = vec![Vec::new(); per_block as usize];
        Ok(Self { system, groups, per_block, next_inode: ROOT + 1, next_block: 0, runs })
    }

    /// Gives back what the empty root directory has.
    fn forget_root(&mut self) -> Result<(), UfsError> {
        let root = self.system.inode(ROOT)?;
        let blocks = root.size.div_ceil(self.system.block);
        if root.kind != super::FileKind::Directory || blocks > 1 {
            return Err(UfsError::Damaged("it is not empty".into()));
        }
        let first = u64::from(self.system.fragment_of(&root, 0)?);
        for fragment in first..first + root.size.div_ceil(self.system.fragment) {
            self.set_free(fragment, true);
        }
        self.groups[0].directories = 0;
        Ok(())
    }

    fn place(&self, fragment: u64) -> (usize, usize) {
        let per_group = self.system.fragments_per_group;
        ((fragment / per_group) as usize, (fragment % per_group) as usize)
    }

    fn is_free(&self, fragment: u64) -> bool {
        let (group, bit) = self.place(fragment);
        let Some(group) = self.groups.get(group) else { return false };
        (bit as u64) < group.fragments && group.bytes[group.blocks_free + bit / 8] & 1 << (bit % 8) != 0
    }

    fn set_free(&mut self, fragment: u64, free: bool) {
        let (group, bit) = self.place(fragment);
        let Group { bytes, blocks_free, .. } = &mut self.groups[group];
        let byte = &mut bytes[*blocks_free + bit / 8];
        if free { *byte |= 1 << (bit % 8) } else { *byte &= !(1 << (bit % 8)) }
    }

    /// The next inode that is not used.
    fn inode(&mut self) -> Result<u32, UfsError> {
        loop {
            let number = self.next_inode;
            self.next_inode += 1;
            let (group, bit) = (number / self.system.inodes_per_group, number % self.system.inodes_per_group);
            let Some(Group { bytes, inodes_used, .. }) = self.groups.get_mut(group as usize) else {
                return Err(UfsError::Full("inodes"));
            };
            let byte = &mut bytes[*inodes_used + bit as usize / 8];
            if *byte & 1 << (bit % 8) == 0 {
                *byte |= 1 << (bit % 8);
                return Ok(number);
            }
        }
    }

    fn count_directory(&mut self, number: u32) {
        self.groups[(number / self.system.inodes_per_group) as usize].directories += 1;
    }

    /// A whole block, by its first fragment.
    fn block(&mut self) -> Result<u64, UfsError> {
        while self.next_block < self.system.fragments {
            let first = self.next_block;
            self.next_block += self.per_block;
            if (first..first + self.per_block).all(|fragment| self.is_free(fragment)) {
                (first..first + self.per_block).for_each(|fragment| self.set_free(fragment, false));
                return Ok(first);
            }
        }
        Err(UfsError::Full("blocks"))
    }

    /// So many fragments in a row, fewer than a block has.
    fn fragments(&mut self, count: u64) -> Result<u64, UfsError> {
        let fitting = (count..self.per_block).find(|length| !self.runs[*length as usize].is_empty());
        let (first, length) =
            match fitting.and_then(|length| Some((self.runs[length as usize].pop()?, length))) {
                Some(run) => run,
                None => {
                    let block = self.block()?;
                    (block..block + self.per_block).for_each(|fragment| self.set_free(fragment, true));
                    (block, self.per_block)
                }
            };
        (first..first + count).for_each(|fragment| self.set_free(fragment, false));
        if length > count {
            self.runs[(length - count) as usize].push(first + count);
        }
        Ok(first)
    }

    /// Writes a file's contents and its inode.
    fn write(
        &mut self,
        number: u32,
        entry: &Entry,
        links: u16,
        contents: &mut dyn Read,
        size: u64,
        latest: u64,
    ) -> Result<(), UfsError> {
        let mut inode = [0; INODE_SIZE as usize];
        let kind = match entry.kind {
            Kind::Directory => 0o040_000,
            Kind::File { .. } => 0o100_000,
            Kind::Link(_) => 0o120_000_u16,
        };
        let mut put = |at: usize, bytes: &[u8]| inode[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(kind | entry.mode as u16 & 0o7777).to_le_bytes());
        put(2, &links.to_le_bytes());
        put(8, &size.to_le_bytes());
        let time = entry.time.min(latest) as u32;
        [16, 24, 32].into_iter().for_each(|at| put(at, &time.to_le_bytes()));
        put(112, &entry.uid.to_le_bytes());
        put(116, &entry.gid.to_le_bytes());
        if matches!(entry.kind, Kind::Link(_)) && size < self.system.short_link.min(60) {
            let mut to = Vec::new();
            contents.read_to_end(&mut to)?;
            put(40, &to);
        } else {
            let (blocks, sectors) = self.contents(contents, size)?;
            let pointers = self.pointers(&blocks)?;
            for (place, fragment) in pointers.places.iter().enumerate() {
                put(40 + 4 * place, &fragment.to_le_bytes());
            }
            put(104, &((sectors + pointers.sectors) as u32).to_le_bytes());
        }
        let at = self.system.inode_at(number)?;
        Ok(self.system.image.write_all_at(&inode, at)?)
    }

    /// Puts bytes onto the disk: the first fragments of their blocks, and how many sectors those take.
    fn contents(&mut self, contents: &mut dyn Read, size: u64) -> Result<(Vec<u32>, u64), UfsError> {
        let (block, fragment) = (self.system.block, self.system.fragment);
        let count = size.div_ceil(block);
        let (mut blocks, mut sectors) = (Vec::new(), 0);
        for place in 0..count {
            let length = (size - place * block).min(block);
            // Only within the direct pointers may a last block be a part of one.
            let needed = if count <= DIRECT as u64 { length.div_ceil(fragment) } else { self.per_block };
            let first = if needed == self.per_block { self.block()? } else { self.fragments(needed)? };
            let mut bytes = vec![0; (needed * fragment) as usize];
            contents.read_exact(&mut bytes[..length as usize])?;
            self.system.image.write_all_at(&bytes, self.system.offset + first * fragment)?;
            blocks.push(first as u32);
            sectors += needed * fragment / SECTOR;
        }
        Ok((blocks, sectors))
    }

    /// The fifteen pointers of an inode, with the indirect blocks written.
    fn pointers(&mut self, blocks: &[u32]) -> Result<Pointers, UfsError> {
        let mut pointers = Pointers::default();
        let (direct, mut rest) = blocks.split_at(blocks.len().min(DIRECT));
        pointers.places[..direct.len()].copy_from_slice(direct);
        let each = (self.system.block / 4) as usize;
        for level in 0..3 {
            if rest.is_empty() {
                break;
            }
            let (here, later) = rest.split_at(rest.len().min(each.pow(level + 1)));
            pointers.places[DIRECT + level as usize] = self.indirect(here, level, &mut pointers.sectors)?;
            rest = later;
        }
        Ok(pointers)
    }

    /// A block of pointers, with those below it.
    fn indirect(&mut self, blocks: &[u32], level: u32, sectors: &mut u64) -> Result<u32, UfsError> {
        let each = (self.system.block / 4) as usize;
        let below = match level {
            0 => blocks.to_vec(),
            _ => {
                let parts = blocks.chunks(each.pow(level));
                parts.map(|part| self.indirect(part, level - 1, sectors)).collect::<Result<_, _>>()?
            }
        };
        let first = self.block()?;
        let mut bytes: Vec<u8> = below.into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.resize(self.system.block as usize, 0);
        self.system.image.write_all_at(&bytes, self.system.offset + first * self.system.fragment)?;
        *sectors += self.system.block / SECTOR;
        Ok(first as u32)
    }

    /// Counts anew what is free, and writes groups, summary and superblock.
    fn finish(mut self) -> Result<(), UfsError> {
        let system = self.system;
        let mut superblock = [0; 1376];
        system.image.read_exact_at(&mut superblock, system.offset + SUPERBLOCK_AT)?;
        let clusters = u32_at(&superblock, 1316) as usize;
        let summary_at = system.offset + u64::from(u32_at(&superblock, 152)) * system.fragment;
        let mut total = [0u64; 4];
        for (number, group) in self.groups.iter_mut().enumerate() {
            let counts = group.count(self.per_block as usize, system.inodes_per_group, clusters);
            let bytes: Vec<u8> = counts.into_iter().flat_map(u32::to_le_bytes).collect();
            group.bytes[24..40].copy_from_slice(&bytes);
            system.image.write_all_at(&bytes, summary_at + number as u64 * 16)?;
            system.image.write_all_at(&group.bytes, group.at)?;
            total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
        }
        for (place, sum) in total.into_iter().enumerate() {
            let at = system.offset + SUPERBLOCK_AT;
            system.image.write_all_at(&(sum as u32).to_le_bytes(), at + 192 + 4 * place as u64)?;
            system.image.write_all_at(&sum.to_le_bytes(), at + 1008 + 8 * place as u64)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Pointers {
    places: [u32; DIRECT + 3],
    sectors: u64,
}

impl Group {
    /// Directories, free blocks, free inodes, free fragments outside free blocks; the tables of runs with them.
    fn count(&mut self, per_block: usize, inodes: u32, clusters: usize) -> [u32; 4] {
        let bit = |bytes: &[u8], start: usize, place: usize| bytes[start + place / 8] & 1 << (place % 8) != 0;
        let used =
            (0..inodes as usize).filter(|place| bit(&self.bytes, self.inodes_used, *place)).count() as u32;
        let (mut free_blocks, mut free_fragments) = (0, 0);
        let mut runs = [0u32; 8];
        let mut block_map = Vec::new();
        for block in 0..(self.fragments as usize).div_ceil(per_block) {
            let places = block * per_block..((block + 1) * per_block).min(self.fragments as usize);
            let free: Vec<bool> = places.map(|place| bit(&self.bytes, self.blocks_free, place)).collect();
            let whole = free.len() == per_block && free.iter().all(|free| *free);
            block_map.push(whole);
            if whole {
                free_blocks += 1;
                continue;
            }
            for run in free.split(|free| !free).filter(|run| !run.is_empty()) {
                runs[run.len()] += 1;
                free_fragments += run.len() as u32;
            }
        }
        for (place, count) in runs.into_iter().enumerate() {
            self.bytes[52 + 4 * place..56 + 4 * place].copy_from_slice(&count.to_le_bytes());
        }
        if clusters > 0 {
            self.count_clusters(&block_map, clusters);
        }
        [self.directories, free_blocks, inodes - used, free_fragments]
    }

    /// The map of free blocks, and how many runs of each length there are.
    fn count_clusters(&mut self, block_map: &[bool], longest: usize) {
        let [sums, map, count] = [104, 108, 112].map(|field| u32_at(&self.bytes, field) as usize);
        let mut lengths = vec![0u32; longest + 1];
        for (place, free) in block_map.iter().take(count).enumerate() {
            let byte = &mut self.bytes[map + place / 8];
            if *free { *byte |= 1 << (place % 8) } else { *byte &= !(1 << (place % 8)) }
        }
        for run in block_map[..count.min(block_map.len())].split(|free| !free).filter(|run| !run.is_empty()) {
            lengths[run.len().min(longest)] += 1;
        }
        for (place, count) in lengths.into_iter().enumerate().skip(1) {
            self.bytes[sums + 4 * place..sums + 4 * place + 4].copy_from_slice(&count.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_directory_do_not_cross_its_pieces_and_fill_them() {
        let names: Vec<String> = (0..40).map(|n| format!("a-name-of-some-length-{n:03}")).collect();
        let inside: Vec<(&str, u32, u8)> =
            names.iter().zip(10..).map(|(name, n)| (name.as_str(), n, 8)).collect();
        let bytes = directory(2, 2, &inside);
        assert_eq!(bytes.len() % 512, 0);
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            let length = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
            assert!(length >= 12 && length % 4 == 0 && at / 512 == (at + length - 1) / 512, "at {at}");
            let name = &bytes[at + 8..at + 8 + usize::from(bytes[at + 7])];
            found.push((String::from_utf8_lossy(name).into_owned(), u32_at(&bytes, at)));
            at += length;
        }
        assert_eq!(found[..2], [(".".into(), 2), ("..".into(), 2)]);
        assert_eq!(found.len(), 42);
        assert_eq!(found[41], (names[39].clone(), 49));
        // "." has 12 bytes, as every file system has it.
        assert_eq!(bytes[..12], [2, 0, 0, 0, 12, 0, 4, 1, b'.', 0, 0, 0]);
    }
}
