//! `custom_options`: text of the administrator's own that goes into the daemon's configuration, for what no
//! field of ours says. It may add and change; it may not take the daemon out of our hands.

use crate::config::BadValue;

/// Tables of rdns.toml that say where the daemon's own files and sockets lie, and who it runs as.
const OURS: [&str; 2] = ["server", "control"];

/// Reads options for rDNS: TOML tables, merged over ours.
pub fn for_rdns(text: &str) -> Result<toml::Table, BadValue> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| BadValue::new(format!("expected TOML: {}", error.message())))?;
    if let Some(name) = OURS.iter().find(|name| table.contains_key(**name)) {
        return Err(BadValue::new(format!("[{name}] cannot be set here")));
    }
    if table
        .get("security")
        .and_then(toml::Value::as_table)
        .is_some_and(|table| table.contains_key("sandbox"))
    {
        return Err(BadValue::new("security.sandbox cannot be set here"));
    }
    match table.iter().find(|(_, value)| !value.is_table()) {
        Some((key, _)) => Err(BadValue::new(format!("{key} stands in no [table]"))),
        None => Ok(table),
    }
}

/// Reads options for unbound: lines of its `server:` clause.
pub fn for_unbound(text: &str) -> Result<Vec<&str>, BadValue> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(':') {
            Some((key, value))
                if key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') =>
            {
                let value = value.trim();
                if value.is_empty() || value.starts_with('#') {
                    return Err(BadValue::new(format!("{line:?} begins another clause")));
                }
                if matches!(key, "include" | "include-toplevel" | "python-script" | "dynlib-file") {
                    return Err(BadValue::new(format!("{key} cannot be set here")));
                }
                if value.chars().any(|c| c.is_control() && c != '\t') {
                    return Err(BadValue::new("control characters are not taken"));
                }
                Ok(line)
            }
            _ => Err(BadValue::new(format!("expected lines such as \"prefetch: yes\", not {line:?}"))),
        })
        .collect()
}

/// Puts `over` into `base`, table by table; what is no table in both is replaced.
pub fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_are_merged_and_ours_are_refused() {
        let mut base: toml::Table = "[cache]\nmax_ttl = 1\nmin_ttl = 2\n".parse().unwrap();
        merge(&mut base, for_rdns("[cache]\nmax_ttl = 9\n[edns]\nudp_payload_size = 1400\n").unwrap());
        assert_eq!(
            base.to_string(),
            "[cache]\nmax_ttl = 9\nmin_ttl = 2\n\n[edns]\nudp_payload_size = 1400\n"
        );
        for bad in ["[server]\nuser = \"root\"", "control = {}", "[security]\nsandbox = true", "x", "a = 1"] {
            assert!(for_rdns(bad).is_err(), "{bad}");
        }
        assert!(for_rdns("").unwrap().is_empty());
    }

    #[test]
    fn unbound_options_stay_within_their_clause() {
        assert_eq!(for_unbound(" prefetch: yes \n# x\n").unwrap(), ["prefetch: yes"]);
        for bad in ["remote-control:", "forward-zone: # x", "include: /etc/passwd", "hello", "Server: x"] {
            assert!(for_unbound(bad).is_err(), "{bad}");
        }
    }
}
