//! The EFI system partition: FAT32, as UEFI wants it on a fixed disk (specification 2.10, 13.3), with the one file
//! that firmware starts where nothing else is set up (3.5.1.1). Made in memory, without mtools or a mount.

use std::io::{self, Cursor, Read, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

/// The path of the boot program for amd64.
pub const PROGRAM: &str = "EFI/BOOT/BOOTX64.EFI";

/// The file system, of `size` bytes.
pub fn make(program: &[u8], size: u64, seed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let volume = seed.first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(512)
        .volume_id(volume)
        .volume_label(*b"AIFW-EFI   ");
    fatfs::format_volume(Cursor::new(&mut bytes[..]), options)?;
    let system = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new())?;
    let directory = system.root_dir().create_dir("EFI")?.create_dir("BOOT")?;
    let mut out = directory.create_file("BOOTX64.EFI")?;
    out.write_all(program)?;
    out.flush()?;
    drop(out);
    drop(directory);
    system.unmount()?;
    Ok(bytes)
}

/// The boot program in such a file system.
pub fn read(bytes: &mut [u8]) -> io::Result<Vec<u8>> {
    let system = FileSystem::new(Cursor::new(bytes), FsOptions::new().update_accessed_date(false))?;
    let mut program = Vec::new();
    system.root_dir().open_file(PROGRAM)?.read_to_end(&mut program)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_boot_program_is_where_firmware_looks_and_the_bytes_are_the_same_each_time() {
        let program: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let mut one = make(&program, 40 << 20, b"seed").unwrap();
        assert_eq!(one, make(&program, 40 << 20, b"seed").unwrap());
        assert_eq!(&one[82..90], b"FAT32   ");
        assert_eq!(read(&mut one).unwrap(), program);
    }
}
