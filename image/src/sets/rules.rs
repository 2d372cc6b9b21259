//! What of a distribution set is kept. The list itself, with a reason for each line, is `image/base.toml`; this
//! reads it and answers for one path at a time. Called by `sets` while it reads an archive.

use serde::Deserialize;

/// The list, as it is in the repository.
const LIST: &str = include_str!("../../base.toml");

/// What happens to a file of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
    /// Kept if a kept program asks for this library.
    IfNeeded,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    rule: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    keep: Vec<String>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    needed: Vec<String>,
    reason: String,
}

/// One rule, read.
#[derive(Debug)]
struct Rule {
    patterns: Vec<(Verdict, Vec<String>)>,
    reason: String,
}

/// The list, read.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// The repository's list.
    pub fn of_the_appliance() -> Result<Self, toml::de::Error> {
        Self::parse(LIST)
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let document: Document = toml::from_str(text)?;
        let rules = document.rule.into_iter().map(|line| {
            let lists =
                [(Verdict::Keep, line.keep), (Verdict::Drop, line.drop), (Verdict::IfNeeded, line.needed)];
            let patterns = lists.into_iter().flat_map(|(verdict, list)| {
                list.into_iter()
                    .map(move |pattern| (verdict, pattern.split('/').map(str::to_owned).collect()))
            });
            Rule { patterns: patterns.collect(), reason: line.reason }
        });
        Ok(Self { rules: rules.collect() })
    }

    /// What happens to the file of this path (without a leading slash), and why.
    pub fn judge(&self, path: &str) -> (Verdict, &str) {
        let names: Vec<&str> = path.split('/').collect();
        let found = self.rules.iter().rev().find_map(|rule| {
            let (verdict, _) = rule.patterns.iter().find(|(_, pattern)| covers(pattern, &names))?;
            Some((*verdict, rule.reason.as_str()))
        });
        found.unwrap_or((Verdict::Drop, "no rule"))
    }
}

/// Whether the pattern is the path, or a directory above it.
fn covers(pattern: &[String], names: &[&str]) -> bool {
    pattern.len() <= names.len() && pattern.iter().zip(names).all(|(pattern, name)| is_like(pattern, name))
}

/// Whether a name is like a pattern in which `*` stands for any characters.
fn is_like(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_rule_that_covers_a_path_decides() {
        let rules = Rules::parse(
            "[[rule]]\ndrop = [\"*\"]\nreason = \"rest\"\n[[rule]]\nkeep = [\"sbin\", \"usr/lib/pam_*.so*\"]\nreason = \
             \"base\"\n[[rule]]\ndrop = [\"sbin/ipf*\"]\nreason = \"other firewalls\"\n[[rule]]\nneeded = \
             [\"lib/*.so*\"]\nreason = \"libraries\"",
        )
        .unwrap();
        assert_eq!(rules.judge("sbin/pfctl"), (Verdict::Keep, "base"));
        assert_eq!(rules.judge("sbin/ipfw"), (Verdict::Drop, "other firewalls"));
        assert_eq!(rules.judge("usr/lib/pam_unix.so.6"), (Verdict::Keep, "base"));
        assert_eq!(rules.judge("usr/lib/libpam.a"), (Verdict::Drop, "rest"));
        assert_eq!(rules.judge("lib/libc.so.7"), (Verdict::IfNeeded, "libraries"));
        assert_eq!(rules.judge("sbinx"), (Verdict::Drop, "rest"));
    }

    #[test]
    fn stars_stand_for_any_characters_of_one_name() {
        for (pattern, name, like) in [
            ("a", "a", true),
            ("a*", "a", true),
            ("*.so*", "libc.so.7", true),
            ("*.so*", "libc.a", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("*", "", true),
        ] {
            assert_eq!(is_like(pattern, name), like, "{pattern} {name}");
        }
    }

    #[test]
    fn what_the_appliance_cannot_do_without_is_on_the_list() {
        let rules = Rules::of_the_appliance().unwrap();
        for path in [
            "sbin/init",
            "bin/sh",
            "etc/rc",
            "etc/rc.initdiskless",
            "etc/rc.d/netif",
            "sbin/pfctl",
            "sbin/mdmfs",
            "sbin/gpart",
            "sbin/geom",
            "lib/geom/geom_part.so",
            "sbin/newfs",
            "sbin/growfs",
            "sbin/fsck_ffs",
            "sbin/dhclient",
            "libexec/ld-elf.so.1",
            "boot/loader",
            "boot/loader.efi",
            "boot/gptboot",
            "boot/gptboot.efi",
            "boot/pmbr",
            "boot/lua/loader.lua",
            "boot/defaults/loader.conf",
            "boot/kernel/kernel",
            "boot/kernel/pf.ko",
            "boot/kernel/pflog.ko",
            "boot/kernel/pfsync.ko",
            "boot/kernel/carp.ko",
            "boot/kernel/if_wg.ko",
            "boot/kernel/ipsec.ko",
            "boot/kernel/if_bridge.ko",
            "boot/kernel/if_lagg.ko",
            "boot/kernel/tarfs.ko",
            "boot/kernel/if_vtnet.ko",
            "boot/kernel/if_ixl.ko",
            "boot/kernel/mlx5en.ko",
            "boot/kernel/linuxkpi.ko",
            "boot/kernel/ipdivert.ko",
            "boot/kernel/coretemp.ko",
            "usr/bin/login",
            "usr/libexec/getty",
            "usr/sbin/sshd",
            "usr/libexec/sshd-session",
            "usr/sbin/pw",
            "usr/sbin/tcpdump",
            "usr/bin/netstat",
            "usr/lib/pam_unix.so.6",
            "usr/share/zoneinfo/Europe/Berlin",
            "usr/bin/wg",
        ] {
            assert_eq!(rules.judge(path).0, Verdict::Keep, "{path}");
        }
        for path in [
            "usr/bin/cc",
            "usr/include/stdio.h",
            "usr/share/man/man1/ls.1.gz",
            "rescue/sh",
            "usr/lib32/libc.so",
            "boot/kernel/zfs.ko",
            "boot/kernel/if_iwm.ko",
            "usr/tests/x",
            "usr/sbin/ntpd",
            "usr/lib/libc.a",
            "etc/rc.d/gptboot",
        ] {
            assert_eq!(rules.judge(path).0, Verdict::Drop, "{path}");
        }
        assert_eq!(rules.judge("lib/libc.so.7").0, Verdict::IfNeeded);
    }
}
