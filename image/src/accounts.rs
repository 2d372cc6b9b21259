//! The account database of a slot: passwd(5), pwd.db and spwd.db from the overlay's master.passwd, as pwd_mkdb(8)
//! would make them on FreeBSD. The C library of FreeBSD reads the databases only, and the sets' own have a root
//! without a password in them; so a slot must not be shipped with those, nor wait for a program at boot to replace
//! them. Called by `slot`.
//!
//! A database is a file of db(3)'s hash(3) method: a header page, then buckets of one page each. Numbers are
//! big-endian. What is written here has eight buckets, as pwd_mkdb's own, and no overflow pages.

/// Why an account file is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    #[error(
        "master.passwd line {0}: expected ten fields, name:password:uid:gid:class:change:expire:gecos:home:shell"
    )]
    Fields(usize),
    #[error("master.passwd line {line}: {field} is no number")]
    Number { line: usize, field: &'static str },
    #[error("the accounts do not fit into a bucket of the database: too many or too long")]
    TooMany,
}

/// A line of master.passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub password: String,
    pub uid: u32,
    pub gid: u32,
    class: String,
    change: u32,
    expire: u32,
    gecos: String,
    pub home: String,
    pub shell: String,
    fields: u32,
}

/// Reads master.passwd(5); comments and empty lines are left out.
pub fn parse(text: &str) -> Result<Vec<Account>, AccountError> {
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| account(at + 1, line)).collect()
}

fn account(line: usize, text: &str) -> Result<Account, AccountError> {
    let fields: Vec<&str> = text.split(':').collect();
    let &[name, password, uid, gid, class, change, expire, gecos, home, shell] = fields.as_slice() else {
        return Err(AccountError::Fields(line));
    };
    let number = |field: &'static str, value: &str| {
        let value = if value.is_empty() { "0" } else { value };
        value.parse::<u32>().map_err(|_| AccountError::Number { line, field })
    };
    // _PWF_… of pwd.h, in the order of its bits: which fields are not empty.
    let given = [name, password, uid, gid, change, class, gecos, home, shell, expire];
    let fields =
        given.iter().enumerate().fold(0, |bits, (bit, text)| bits | u32::from(!text.is_empty()) << bit);
    Ok(Account {
        name: name.into(),
        password: password.into(),
        uid: number("the user number", uid)?,
        gid: number("the group number", gid)?,
        class: class.into(),
        change: number("the time of change", change)?,
        expire: number("the time of expiry", expire)?,
        gecos: gecos.into(),
        home: home.into(),
        shell: shell.into(),
        fields,
    })
}

/// passwd(5): what everyone may know.
pub fn passwd(accounts: &[Account]) -> String {
    let line = |a: &Account| format!("{}:*:{}:{}:{}:{}:{}\n", a.name, a.uid, a.gid, a.gecos, a.home, a.shell);
    accounts.iter().map(line).collect()
}

/// pwd.db, or spwd.db if it is to have the passwords' hashes.
pub fn database(accounts: &[Account], with_passwords: bool) -> Result<Vec<u8>, AccountError> {
    const BY_NAME: u8 = 0x41;
    const BY_NUMBER: u8 = 0x42;
    const BY_UID: u8 = 0x43;
    let mut table = Table::default();
    table.put(b"\xffVERSION", &[4])?;
    for (place, account) in accounts.iter().enumerate() {
        let record = record(account, with_passwords);
        let place = u32::try_from(place + 1).map_err(|_| AccountError::TooMany)?;
        table.put(&[&[BY_NAME], account.name.as_bytes()].concat(), &record)?;
        table.put(&[&[BY_NUMBER][..], &place.to_be_bytes()].concat(), &record)?;
        table.put(&[&[BY_UID][..], &account.uid.to_be_bytes()].concat(), &record)?;
    }
    Ok(table.file())
}

/// `struct passwd`, the strings inline.
fn record(account: &Account, with_password: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    };
    text(&mut bytes, &account.name);
    text(&mut bytes, if with_password { &account.password } else { "*" });
    for number in [account.uid, account.gid, account.change] {
        bytes.extend(number.to_be_bytes());
    }
    for string in [&account.class, &account.gecos, &account.home, &account.shell] {
        text(&mut bytes, string);
    }
    for number in [account.expire, account.fields] {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

const PAGE: usize = 4096;
const BUCKETS: usize = 8;
/// log2 of the buckets.
const BITS: usize = 3;

/// A hash table as it lies in the file.
#[derive(Debug, Default)]
struct Table {
    /// Offsets of keys and data, and the page's bytes from its end on, in reverse order of their coming.
    buckets: [Vec<(Vec<u8>, Vec<u8>)>; BUCKETS],
    keys: u32,
}

impl Table {
    /// The first of two pairs with one key stays.
    fn put(&mut self, key: &[u8], data: &[u8]) -> Result<(), AccountError> {
        let bucket = &mut self.buckets[hash(key) as usize & (BUCKETS - 1)];
        if bucket.iter().any(|(present, _)| present == key) {
            return Ok(());
        }
        bucket.push((key.to_vec(), data.to_vec()));
        let bytes: usize = bucket.iter().map(|(key, data)| key.len() + data.len() + 4).sum();
        self.keys += 1;
        // The count, the free space and its begin have two bytes each.
        if bytes + 6 > PAGE { Err(AccountError::TooMany) } else { Ok(()) }
    }

    fn file(&self) -> Vec<u8> {
        let mut file = self.header();
        file.resize(PAGE, 0);
        for bucket in &self.buckets {
            file.extend(page(bucket));
        }
        // The map of overflow pages, of which there are none: the bit of the map itself, and those past the end.
        let mut map = vec![0xff; PAGE];
        map[..4].copy_from_slice(&0xffff_fff1_u32.to_be_bytes());
        file.extend(map);
        file
    }

    /// `HASHHDR` of the C library's hash.h.
    fn header(&self) -> Vec<u8> {
        const MAGIC: u32 = 0x0006_1561;
        const VERSION: u32 = 2;
        const BIG_ENDIAN: u32 = 4321;
        let last = BUCKETS as u32 - 1;
        let numbers = [
            MAGIC,
            VERSION,
            BIG_ENDIAN,
            PAGE as u32,
            12,
            256,
            256,
            8,
            // Overflow pages come after the third doubling; the next free one is the second: the first is the map.
            BITS as u32,
            2,
            last,
            2 * BUCKETS as u32 - 1,
            last,
            32,
            self.keys,
            1,
            hash(b"%$sniglet^&\0"),
        ];
        let mut header: Vec<u8> = numbers.into_iter().flat_map(u32::to_be_bytes).collect();
        for place in 0..32 {
            let spare: u32 = if place == BITS || place == BITS + 1 { BITS as u32 + 1 } else { 0 };
            header.extend(spare.to_be_bytes());
        }
        for place in 0..32 {
            let map: u16 = if place == 0 { (BITS as u16) << 11 | 1 } else { 0 };
            header.extend(map.to_be_bytes());
        }
        header
    }
}

/// A bucket's page: the offsets of each key and its data from the front, their bytes from the back.
fn page(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    let (mut words, mut end) = (Vec::new(), PAGE);
    for bytes in pairs.iter().flat_map(|(key, data)| [key, data]) {
        page[end - bytes.len()..end].copy_from_slice(bytes);
        end -= bytes.len();
        words.push(end as u16);
    }
    let count = words.len() as u16;
    let free = end - (words.len() + 3) * 2;
    let all = [count].into_iter().chain(words).chain([free as u16, end as u16]);
    for (place, word) in all.enumerate() {
        page[place * 2..place * 2 + 2].copy_from_slice(&word.to_be_bytes());
    }
    page
}

/// db(3)'s default hash function: h = 33 h + byte.
fn hash(key: &[u8]) -> u32 {
    key.iter().fold(0, |h: u32, byte| h.wrapping_mul(33).wrapping_add(u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    const MASTER: &str = "# comment\nroot:*:0:0::0:0:Charlie &:/root:/bin/sh\nsshd:*:22:22::0:0:Secure Shell \
                          Daemon:/var/empty:/usr/sbin/nologin\n";

    /// Every pair of a database, found as the C library finds it: page by page, by the offsets at its front.
    fn pairs(file: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let word = |page: &[u8], at: usize| usize::from(u16::from_be_bytes([page[2 * at], page[2 * at + 1]]));
        let mut pairs = BTreeMap::new();
        for bucket in 0..8 {
            let page = &file[(1 + bucket) * 4096..(2 + bucket) * 4096];
            let mut end = 4096;
            for pair in 0..word(page, 0) / 2 {
                let (key, data) = (word(page, 1 + 2 * pair), word(page, 2 + 2 * pair));
                let name = page[key..end].to_vec();
                assert_eq!(hash(&name) as usize % 8, bucket);
                pairs.insert(name, page[data..key].to_vec());
                end = data;
            }
            assert_eq!(word(page, word(page, 0) + 2), end);
        }
        pairs
    }

    #[test]
    fn each_account_is_found_by_name_number_and_user_number() {
        let accounts = parse(MASTER).unwrap();
        let file = database(&accounts, true).unwrap();
        assert_eq!(&file[..12], [0, 6, 0x15, 0x61, 0, 0, 0, 2, 0, 0, 0x10, 0xe1]);
        assert_eq!(file.len(), 10 * 4096);
        let pairs = pairs(&file);
        assert_eq!(pairs.len(), 7);
        let root = b"root\0*\0\0\0\0\0\0\0\0\0\0\0\0\0\0Charlie &\0/root\0/bin/sh\0\0\0\0\0\0\0\x03\xdf";
        for key in [&b"\x41root"[..], b"\x42\0\0\0\x01", b"\x43\0\0\0\0"] {
            assert_eq!(pairs[key], root, "{key:?}");
        }
        assert_eq!(pairs[&b"\xffVERSION"[..]], [4]);
        assert!(pairs[&b"\x43\0\0\0\x16"[..]].starts_with(b"sshd\0*\0\0\0\0\x16"));
    }

    #[test]
    fn hashes_of_passwords_are_in_the_secure_database_only() {
        let accounts = parse("admin:$6$salt$hash:1001:1001::0:0:A:/home/a:/bin/sh\n").unwrap();
        let has = |file: Vec<u8>| file.windows(6).any(|bytes| bytes == b"$hash\0");
        assert!(has(database(&accounts, true).unwrap()));
        assert!(!has(database(&accounts, false).unwrap()));
        assert_eq!(passwd(&accounts), "admin:*:1001:1001:A:/home/a:/bin/sh\n");
    }

    #[test]
    fn bad_lines_are_named() {
        assert_eq!(parse("root:*:0:0:/root:/bin/sh"), Err(AccountError::Fields(1)));
        assert_eq!(
            parse("#\na:*:x:0::0:0::/:/bin/sh"),
            Err(AccountError::Number { line: 2, field: "the user number" })
        );
        let many: String =
            (0..400).map(|n| format!("user{n}:*:{n}:0::0:0:Somebody:/nonexistent:/x\n")).collect();
        assert_eq!(database(&parse(&many).unwrap(), true), Err(AccountError::TooMany));
    }
}
