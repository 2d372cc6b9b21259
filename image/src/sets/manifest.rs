//! MANIFEST, as FreeBSD puts it beside the sets of a release: one set a line, fields separated by tabs: file name,
//! SHA-256, number of files, and what the installer shows.

/// The SHA-256 of a set, in small letters.
pub fn hash_of(manifest: &str, name: &str) -> Option<String> {
    manifest.lines().find_map(|line| {
        let mut fields = line.split('\t');
        let found = fields.next()? == name;
        let hash = fields.next()?.trim();
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        (found && is_hash).then(|| hash.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sets_hash_is_in_the_second_field_of_its_line() {
        let hash = "0123456789ABCDEF".repeat(4);
        let text = format!(
            "base-dbg.txz\t{}\t7\tbase_dbg\t\"Base system (Debugging)\"\toff\nbase.txz\t{hash}\t29\tbase\t\"Base system (MANDATORY)\"\ton\n",
            "0".repeat(64)
        );
        assert_eq!(hash_of(&text, "base.txz"), Some(hash.to_ascii_lowercase()));
        assert_eq!(hash_of(&text, "kernel.txz"), None);
        assert_eq!(hash_of("base.txz\tno hash\t1", "base.txz"), None);
    }
}
