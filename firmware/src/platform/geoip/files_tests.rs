//! A database made of small files in MaxMind's formats. The mmdb is written here, byte for byte after the
//! MaxMind DB file format specification 2.0, since no library on hand writes one.

#![allow(clippy::unwrap_used)]

use super::super::GeoIp;
use super::*;

const LOCATIONS: &str = "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,is_in_european_union\n\
    1,en,EU,Europe,AA,\"Aland, the one\",1\n2,en,AS,Asia,BB,Bland,0\n3,en,AS,Asia,,,0\n";
const BLOCKS: &str = "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider\n\
    203.0.113.0/25,1,1,,0,0\n203.0.113.128/25,1,2,,0,0\n198.51.100.0/24,,2,,0,0\n192.0.2.0/24,3,,,0,0\n198.51.100.64/26,1,,,0,0\n";
const BLOCKS6: &str = "network,geoname_id,registered_country_geoname_id,x\n2001:db8::/32,1,1,\n";
const ASN: &str = "network,autonomous_system_number,autonomous_system_organization\n203.0.113.0/24,64500,\"Example, Inc.\"\n";

fn csv_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        (COUNTRY_LOCATIONS, LOCATIONS),
        (COUNTRY_BLOCKS[0], BLOCKS),
        (COUNTRY_BLOCKS[1], BLOCKS6),
        (ASN_BLOCKS[0], ASN),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn csv_files_give_country_name_network_and_system() {
    let directory = csv_directory();
    let geo = GeoIp::new(directory.path());
    let found = geo.database().locate("203.0.113.7".parse().unwrap());
    assert_eq!(found.country_code.as_deref(), Some("AA"));
    assert_eq!(found.country_name.as_deref(), Some("Aland, the one"));
    assert_eq!(found.network.as_deref(), Some("203.0.113.0/25"));
    assert_eq!((found.asn, found.as_org.as_deref()), (Some(64500), Some("Example, Inc.")));
    // An empty geoname_id falls back to the registered country; the longer network wins.
    assert_eq!(geo.database().locate("198.51.100.1".parse().unwrap()).country.as_deref(), Some("BB"));
    assert_eq!(geo.database().locate("198.51.100.65".parse().unwrap()).country.as_deref(), Some("AA"));
    assert!(!geo.database().locate("192.0.2.1".parse().unwrap()).found);
    assert_eq!(geo.database().locate("2001:db8::1".parse().unwrap()).country.as_deref(), Some("AA"));
    let networks: Vec<String> = geo.networks("AA").iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["198.51.100.64/26", "203.0.113.0/24", "2001:db8::/32"]);
}

#[test]
fn no_files_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let geo = GeoIp::new(directory.path().join("absent"));
    assert!(geo.database().is_empty());
    assert!(!geo.database().locate("203.0.113.7".parse().unwrap()).found);
    assert!(geo.networks("AA").is_empty());
}

#[test]
fn a_broken_file_is_refused_and_changes_nothing() {
    let directory = csv_directory();
    let geo = GeoIp::new(directory.path());
    assert!(geo.install("GeoLite2-Country.mmdb", b"not a database").is_err());
    let refused = geo.install(COUNTRY_BLOCKS[0], b"network,geoname_id\nnot-a-network,1\n").unwrap_err();
    assert!(refused.to_string().contains("line 2"), "{refused}");
    for name in ["../../etc/passwd", ".hidden.mmdb", "other.csv", "a/b.mmdb"] {
        assert!(geo.install(name, b"").is_err(), "{name}");
    }
    assert_eq!(geo.database().locate("203.0.113.7".parse().unwrap()).country.as_deref(), Some("AA"));
}

/// A value of the data section: control byte(s), then the payload.
fn text(value: &str) -> Vec<u8> {
    // Sizes from 29 on stand in a byte of their own.
    let size: &[u8] = &match value.len() as u8 {
        short @ 0..29 => vec![0x40 | short],
        long => vec![0x40 | 29, long - 29],
    };
    [size, value.as_bytes()].concat()
}
fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xe0 | pairs.len() as u8];
    for (key, value) in pairs {
        out.extend(text(key));
        out.extend(value);
    }
    out
}
fn number(value: u32) -> Vec<u8> {
    [&[0xc4][..], &value.to_be_bytes()].concat()
}

/// A database with one record for one IPv4 network.
fn mmdb(network: &str, record: Vec<u8>) -> Vec<u8> {
    let network: ipnet::Ipv4Net = network.parse().unwrap();
    let nodes = u32::from(network.prefix_len());
    let mut tree = Vec::new();
    for depth in 0..nodes {
        let onward = if depth + 1 == nodes { nodes + 16 } else { depth + 1 };
        let bit = network.addr().to_bits() >> (31 - depth) & 1;
        let pair = if bit == 0 { [onward, nodes] } else { [nodes, onward] };
        for value in pair {
            tree.extend(&value.to_be_bytes()[1..]);
        }
    }
    let metadata = map(&[
        ("node_count", number(nodes)),
        ("record_size", number(24)),
        ("ip_version", number(4)),
        ("binary_format_major_version", number(2)),
        ("binary_format_minor_version", number(0)),
        ("build_epoch", number(1_700_000_000)),
        ("database_type", text("Test")),
        ("languages", vec![0x01, 0x04, 0x42, b'e', b'n']),
        ("description", map(&[("en", text("test"))])),
    ]);
    [tree, vec![0; 16], record, b"\xab\xcd\xefMaxMind.com".to_vec(), metadata].concat()
}

#[test]
fn mmdb_files_give_country_and_system() {
    let directory = tempfile::tempdir().unwrap();
    let geo = GeoIp::new(directory.path());
    let country =
        map(&[("country", map(&[("iso_code", text("CC")), ("names", map(&[("en", text("Cland"))]))]))]);
    geo.install("GeoLite2-Country.mmdb", &mmdb("203.0.113.0/24", country)).unwrap();
    let system = map(&[
        ("autonomous_system_number", number(64501)),
        ("autonomous_system_organization", text("Example Org")),
    ]);
    geo.install("GeoLite2-ASN.mmdb", &mmdb("203.0.112.0/22", system)).unwrap();
    let found = geo.database().locate("203.0.113.9".parse().unwrap());
    assert_eq!(found.country_name.as_deref(), Some("Cland"));
    assert_eq!((found.country.as_deref(), found.network.as_deref()), (Some("CC"), Some("203.0.113.0/24")));
    assert_eq!((found.asn, found.as_org.as_deref()), (Some(64501), Some("Example Org")));
    assert_eq!(geo.networks("CC").len(), 1);
}
