//! What pfctl(8) puts in place of `$if`, `$srcaddr`, `$dstaddr`, `$srcport`, `$dstport`, `$proto` and `$nr` in
//! labels.

use super::Contradiction;
use crate::pf::ast::*;
use crate::pf::names;

const MAX_LABEL: usize = 63;

pub(super) fn fill_in(labels: &mut [Text], criteria: &Criteria, number: u32) -> Result<(), Contradiction> {
    for label in labels.iter_mut().filter(|label| label.as_str().contains('$')) {
        let interface = criteria.on.first().map_or("any", |on| on.name.as_str()).to_owned();
        let protocol = criteria.protocols.first().copied().unwrap_or(Protocol(0));
        // Protocol 0 has the name "ip" in protocols(5).
        let protocol = match names::protocol_name(protocol) {
            Some(name) => name.to_owned(),
            None if protocol.0 == 0 => "ip".to_owned(),
            None => protocol.0.to_string(),
        };
        let (from, to) = (criteria.between.from(), criteria.between.to());
        let text = label
            .as_str()
            .replace("$if", &interface)
            .replace("$srcaddr", &address(from, criteria.family))
            .replace("$dstaddr", &address(to, criteria.family))
            .replace("$srcport", &port(from))
            .replace("$dstport", &port(to))
            .replace("$proto", &protocol)
            .replace("$nr", &number.to_string());
        if text.len() > MAX_LABEL {
            return Err(Contradiction::LabelTooLong(text));
        }
        *label = Text::new(&text).map_err(|error| Contradiction::LabelTooLong(error.got))?;
    }
    Ok(())
}

fn address(endpoint: &Endpoint, family: Option<Family>) -> String {
    let Some(item) = endpoint.hosts.first() else { return "any".into() };
    let text = match &item.host {
        Host::Interface(host) => format!("({})", host.interface),
        Host::Net(_) if family.is_none() => "any".into(),
        Host::Range(..) => "?".into(),
        host => host.to_string(),
    };
    if item.negate { format!("! {text}") } else { text }
}

fn port(endpoint: &Endpoint) -> String {
    match endpoint.ports.first() {
        // pfctl leaves ranges out.
        None | Some(Port::Range(..)) => String::new(),
        Some(port) => port.to_string().replace(' ', ""),
    }
}
