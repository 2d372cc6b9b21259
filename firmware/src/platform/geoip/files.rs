//! The files of a geo-IP database: which names count, how each is read, and how one is put in place.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;

use super::spans::Spans;
use super::{Database, GeoIpError, Signature};

const COUNTRY_BLOCKS: [&str; 2] = ["GeoLite2-Country-Blocks-IPv4.csv", "GeoLite2-Country-Blocks-IPv6.csv"];
const COUNTRY_LOCATIONS: &str = "GeoLite2-Country-Locations-en.csv";
const ASN_BLOCKS: [&str; 2] = ["GeoLite2-ASN-Blocks-IPv4.csv", "GeoLite2-ASN-Blocks-IPv6.csv"];

fn is_database(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    plain
        && !name.starts_with('.')
        && (name.ends_with(".mmdb")
            || COUNTRY_BLOCKS.contains(&name)
            || ASN_BLOCKS.contains(&name)
            || name == COUNTRY_LOCATIONS)
}

/// Names, sizes and times of the files that count; equal signatures mean nothing has changed.
pub fn signature(directory: &Path) -> Signature {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut signature: Signature = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| is_database(name))?;
            let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((name, meta.len(), meta.modified().ok()))
        })
        .collect();
    signature.sort();
    signature
}

#[derive(Default)]
struct Builder {
    countries: Vec<(IpNet, u32)>,
    country_list: Vec<(String, Option<String>)>,
    country_numbers: HashMap<String, u32>,
    systems: Vec<(IpNet, u32)>,
    system_list: Vec<(u32, String)>,
    system_numbers: HashMap<u32, u32>,
}

impl Builder {
    fn country(&mut self, code: &str, name: Option<&str>) -> u32 {
        if let Some(number) = self.country_numbers.get(code) {
            return *number;
        }
        let number = self.country_list.len() as u32;
        self.country_list.push((code.to_owned(), name.map(str::to_owned)));
        self.country_numbers.insert(code.to_owned(), number);
        number
    }
    fn system(&mut self, asn: u32, organisation: &str) -> u32 {
        let list = &mut self.system_list;
        *self.system_numbers.entry(asn).or_insert_with(|| {
            list.push((asn, organisation.to_owned()));
            list.len() as u32 - 1
        })
    }
    fn finish(self) -> Database {
        Database {
            countries: Spans::new(self.countries),
            country_list: self.country_list,
            systems: Spans::new(self.systems),
            system_list: self.system_list,
        }
    }
}

/// Reads every file of the directory. CSV and mmdb may stand beside each other; of equal networks the
/// mmdb entry wins.
pub fn load(directory: &Path) -> Result<Database, GeoIpError> {
    let mut builder = Builder::default();
    let present = |name: &str| directory.join(name).is_file();
    if present(COUNTRY_LOCATIONS) {
        let countries = read(directory, COUNTRY_LOCATIONS, |file| read_locations(file, &mut builder))?;
        for name in COUNTRY_BLOCKS.into_iter().filter(|name| present(name)) {
            read(directory, name, |file| read_country_blocks(file, &countries, &mut builder))?;
        }
    }
    for name in ASN_BLOCKS.into_iter().filter(|name| present(name)) {
        read(directory, name, |file| read_asn_blocks(file, &mut builder))?;
    }
    for (name, _, _) in signature(directory).into_iter().filter(|(name, _, _)| name.ends_with(".mmdb")) {
        read(directory, &name, |mut file| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            read_mmdb(bytes, &mut builder)
        })?;
    }
    Ok(builder.finish())
}

fn read<T>(
    directory: &Path,
    name: &str,
    with: impl FnOnce(Box<dyn Read>) -> Result<T, String>,
) -> Result<T, GeoIpError> {
    let file = std::fs::File::open(directory.join(name))?;
    with(Box::new(std::io::BufReader::new(file)))
        .map_err(|reason| GeoIpError::File { file: name.to_owned(), reason })
}

/// Writes `content` beside the other files, if it can be read.
pub fn install(directory: &Path, name: &str, content: &[u8]) -> Result<(), GeoIpError> {
    let refuse = |reason: String| GeoIpError::File { file: name.to_owned(), reason };
    if !is_database(name) {
        return Err(refuse("expected a name ending in .mmdb, or one of the GeoLite2 CSV names".into()));
    }
    let mut builder = Builder::default();
    let known = HashMap::new();
    let outcome = match name {
        COUNTRY_LOCATIONS => read_locations(Box::new(content), &mut builder).map(|_| ()),
        name if COUNTRY_BLOCKS.contains(&name) => {
            read_country_blocks(Box::new(content), &known, &mut builder)
        }
        name if ASN_BLOCKS.contains(&name) => read_asn_blocks(Box::new(content), &mut builder),
        _ => read_mmdb(content.to_vec(), &mut builder),
    };
    outcome.map_err(refuse)?;
    std::fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{name}.new"));
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, directory.join(name))?;
    Ok(())
}

fn rows(file: impl Read) -> csv::Reader<impl Read> {
    csv::ReaderBuilder::new().has_headers(true).flexible(true).from_reader(file)
}

fn field<'a>(row: &'a csv::StringRecord, at: usize, what: &str) -> Result<&'a str, String> {
    row.get(at).ok_or_else(|| format!("line {}: no {what}", row.position().map_or(0, csv::Position::line)))
}

fn network(row: &csv::StringRecord) -> Result<IpNet, String> {
    let text = field(row, 0, "network")?;
    text.parse().map_err(|_| {
        format!("line {}: {text:?} is not a network", row.position().map_or(0, csv::Position::line))
    })
}

/// geoname_id (1st column) → number of the country (ISO code 5th, name 6th column).
fn read_locations(file: impl Read, builder: &mut Builder) -> Result<HashMap<String, u32>, String> {
    let mut countries = HashMap::new();
    for row in rows(file).records() {
        let row = row.map_err(|error| error.to_string())?;
        let (id, code) = (field(&row, 0, "geoname_id")?, field(&row, 4, "country_iso_code")?);
        if code.is_empty() {
            continue;
        }
        let number = builder.country(code, row.get(5).filter(|name| !name.is_empty()));
        countries.insert(id.to_owned(), number);
    }
    Ok(countries)
}

fn read_country_blocks(
    file: impl Read,
    countries: &HashMap<String, u32>,
    builder: &mut Builder,
) -> Result<(), String> {
    for row in rows(file).records() {
        let row = row.map_err(|error| error.to_string())?;
        let network = network(&row)?;
        let (own, registered) = (field(&row, 1, "geoname_id")?, row.get(2).unwrap_or_default());
        let id = if own.is_empty() { registered } else { own };
        if let Some(number) = countries.get(id) {
            builder.countries.push((network, *number));
        }
    }
    Ok(())
}

fn read_asn_blocks(file: impl Read, builder: &mut Builder) -> Result<(), String> {
    for row in rows(file).records() {
        let row = row.map_err(|error| error.to_string())?;
        let network = network(&row)?;
        let text = field(&row, 1, "autonomous_system_number")?;
        let asn = text.parse().map_err(|_| format!("{text:?} is not an AS number"))?;
        let number = builder.system(asn, row.get(2).unwrap_or_default());
        builder.systems.push((network, number));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    iso_code: Option<&'a str>,
    #[serde(borrow, default)]
    names: HashMap<&'a str, &'a str>,
}

/// The fields of the country, city and ASN databases that are of interest here.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<Named<'a>>,
    #[serde(borrow)]
    registered_country: Option<Named<'a>>,
    autonomous_system_number: Option<u32>,
    #[serde(borrow)]
    autonomous_system_organization: Option<&'a str>,
}

fn read_mmdb(bytes: Vec<u8>, builder: &mut Builder) -> Result<(), String> {
    let reader = maxminddb::Reader::from_source(bytes).map_err(|error| error.to_string())?;
    for found in reader.networks(Default::default()).map_err(|error| error.to_string())? {
        let found = found.map_err(|error| error.to_string())?;
        let network = found.network().map_err(|error| error.to_string())?;
        let Some(record) = found.decode::<Record>().map_err(|error| error.to_string())? else { continue };
        let network = IpNet::new(network.ip(), network.prefix()).map_err(|error| error.to_string())?;
        if let Some(country) = record.country.or(record.registered_country)
            && let Some(code) = country.iso_code
        {
            let number = builder.country(code, country.names.get("en").copied());
            builder.countries.push((network, number));
        }
        if let Some(asn) = record.autonomous_system_number {
            let number = builder.system(asn, record.autonomous_system_organization.unwrap_or_default());
            builder.systems.push((network, number));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
