//! What gptboot(8) does at power-on, on BIOS and UEFI alike (stand/libsa/gpt.c of FreeBSD): which partition it
//! boots, and what it writes into the table. The sandbox's machine boots so, and the test of power cuts goes by it.

use super::gpt::{Attributes, FREEBSD_UFS, Gpt, GptError, Partition, Sectors};

/// Goes through the partitions in gptboot's order, and gives the first from which `loads` can load a loader; `None` =
/// the machine stops in gptboot.
///
/// 1. A partition with `bootonce` alone was tried and did not come up: `bootfailed` takes the place of `bootonce`.
/// 2. Partitions with `bootme` and `bootonce`, in order: `bootme` is cleared before the try; one that cannot be
///    loaded gets `bootfailed` in place of `bootonce`.
/// 3. Partitions with `bootme` alone, in order.
/// 4. The first partition, if the above found none at all.
pub fn choose(
    disk: &mut dyn Sectors,
    mut loads: impl FnMut(&mut dyn Sectors, &Partition) -> bool,
) -> Result<Option<Partition>, GptError> {
    let mut gpt = Gpt::read(disk)?;
    let ufs = |gpt: &Gpt| -> Result<Vec<Partition>, GptError> {
        Ok(gpt.partitions()?.into_iter().filter(|partition| partition.kind == FREEBSD_UFS).collect())
    };
    let failed = |held: Attributes| Attributes { boot_once: false, boot_failed: true, ..held };
    let only_once = Attributes { boot_me: false, boot_once: true, boot_failed: false };
    for partition in ufs(&gpt)? {
        gpt.rewrite(disk, partition.number, |held| if held == only_once { failed(held) } else { held })?;
    }
    let mut found = false;
    for partition in ufs(&gpt)?.iter().filter(|p| p.attributes.boot_me && p.attributes.boot_once) {
        found = true;
        gpt.rewrite(disk, partition.number, |held| Attributes { boot_me: false, ..held })?;
        if loads(disk, partition) {
            return Ok(Some(partition.clone()));
        }
        gpt.rewrite(disk, partition.number, failed)?;
    }
    for partition in ufs(&gpt)?.iter().filter(|p| p.attributes.boot_me && !p.attributes.boot_once) {
        found = true;
        if loads(disk, partition) {
            return Ok(Some(partition.clone()));
        }
    }
    if !found {
        for partition in ufs(&gpt)?.iter().take(1) {
            if loads(disk, partition) {
                return Ok(Some(partition.clone()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::update::gpt::Attribute::{BootMe, BootOnce};
    use crate::update::testing::MemoryDisk;

    fn disk() -> (MemoryDisk, Gpt) {
        let mut disk = MemoryDisk::new(400);
        let slots = [(FREEBSD_UFS, "slot-a", 4096), (FREEBSD_UFS, "slot-b", 4096)];
        let gpt = Gpt::create(&mut disk, &slots).unwrap();
        (disk, gpt)
    }
    fn boots(disk: &mut MemoryDisk) -> Option<usize> {
        choose(disk, |_, _| true).unwrap().map(|partition| partition.number)
    }
    fn attributes(disk: &mut MemoryDisk, number: usize) -> Attributes {
        Gpt::read(disk).unwrap().partitions().unwrap()[number - 1].attributes
    }

    #[test]
    fn once_then_the_other_again() {
        let (mut disk, mut gpt) = disk();
        assert_eq!(boots(&mut disk), Some(1), "the first, where nothing is marked");
        gpt.set(&mut disk, 1, BootMe, true).unwrap();
        gpt.set(&mut disk, 2, BootOnce, true).unwrap();
        assert_eq!(boots(&mut disk), Some(2));
        let tried = Attributes { boot_once: true, ..Attributes::default() };
        assert_eq!(attributes(&mut disk, 2), tried, "bootonce alone tells that it was tried");
        assert_eq!(boots(&mut disk), Some(1));
        assert_eq!(attributes(&mut disk, 2), Attributes { boot_failed: true, ..Attributes::default() });
    }

    #[test]
    fn one_that_cannot_be_loaded_is_passed_over() {
        let (mut disk, mut gpt) = disk();
        gpt.set(&mut disk, 1, BootMe, true).unwrap();
        gpt.set(&mut disk, 2, BootOnce, true).unwrap();
        let chosen = choose(&mut disk, |_, partition| partition.number == 1).unwrap().unwrap();
        assert_eq!(chosen.number, 1);
        assert_eq!(attributes(&mut disk, 2), Attributes { boot_failed: true, ..Attributes::default() });
        assert_eq!(choose(&mut disk, |_, _| false).unwrap(), None);
    }
}
