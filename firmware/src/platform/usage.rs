//! How full a mounted file system is: statvfs(3), the same on every host. Used by both platforms.

use super::Disk;

/// Total and used bytes of what is mounted at `mount`; `None` when nothing can be told of it. `filesystem` is its
/// type, which statvfs does not tell.
pub fn usage(mount: &str, filesystem: &str) -> Option<Disk> {
    let stat = nix::sys::statvfs::statvfs(mount).ok()?;
    // Widths differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let (unit, blocks, free) =
        (stat.fragment_size() as u64, u64::from(stat.blocks()), u64::from(stat.blocks_free()));
    Some(Disk {
        mount: mount.into(),
        filesystem: filesystem.into(),
        total: blocks * unit,
        used: blocks.saturating_sub(free) * unit,
    })
}

/// Bytes that can still be written below `path`; `None` where nothing can be told.
pub fn available(path: &std::path::Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    // Widths and signs differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::usage;

    #[test]
    fn the_root_is_mounted_and_other_paths_are_not() {
        let disk = usage("/", "ufs").unwrap();
        assert!(disk.total >= disk.used && disk.total > 0, "{disk:?}");
        assert_eq!((disk.mount.as_str(), disk.filesystem.as_str()), ("/", "ufs"));
        assert_eq!(usage("/nonexistent", "ufs"), None);
    }
}
