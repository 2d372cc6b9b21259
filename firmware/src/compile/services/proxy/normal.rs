//! Small repairs of what clients store, without which the daemon refuses a file or does not do what it says.

use serde_json::{Map, Value, json};

/// Keys whose values are maps of header names: an empty value there removes a header.
const HEADER_MAPS: [&str; 4] =
    ["customRequestHeaders", "customResponseHeaders", "headers", "sslProxyHeaders"];

/// Drops keys whose value is `""`, at every depth.
pub fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| value.as_str() != Some(""));
            for (key, value) in map.iter_mut() {
                if !HEADER_MAPS.contains(&key.as_str()) {
                    drop_empty(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// `tls` of a router or an entry point: `domains` in one string with commas becomes a list of a main name and its
/// alternatives.
pub fn router_tls(tls: &mut Value) {
    if let Some(domains) = tls.get("domains").and_then(Value::as_str).map(str::to_owned) {
        let names: Vec<&str> = domains.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if let (Some((main, sans)), Some(tls)) = (names.split_first(), tls.as_object_mut()) {
            tls.insert("domains".into(), json!([{ "main": main, "sans": sans }]));
        }
    }
    drop_empty(tls);
}

/// The certificate resolver that a `tls` names.
pub fn resolver_of(tls: &Value) -> Option<String> {
    tls.get("certResolver").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Whether the daemon does with the rule of a TCP (with `tls` names) or UDP router what it says. One that it does
/// not know takes everything; of networks it forgets those that it cannot read.
pub fn knows_stream_rule(rule: &str, with_names: bool) -> bool {
    let rule = rule.trim();
    if rule == "*" || (rule.is_empty() && !with_names) {
        return true;
    }
    let Some((matcher, values)) = rule.strip_suffix(')').and_then(|rule| rule.split_once('(')) else {
        return false;
    };
    let mut values = values.split(',').map(str::trim);
    let quoted = |value: &str| {
        let value = value.strip_prefix('`').and_then(|value| value.strip_suffix('`')).unwrap_or_default();
        (!value.is_empty() && !value.contains(['`', '(', ')', '&', '|'])).then(|| value.to_owned())
    };
    match matcher.to_ascii_lowercase().as_str() {
        "hostsni" if with_names => values.all(|value| quoted(value).is_some()),
        "clientip" => values.all(|value| {
            quoted(value).is_some_and(|value| {
                value.parse::<ipnet::IpNet>().is_ok() || value.parse::<std::net::IpAddr>().is_ok()
            })
        }),
        _ => false,
    }
}

/// A TCP or UDP service: a doubled type name is unwrapped, a PROXY protocol version is a number.
pub fn stream_service(service_type: &str, mut body: Map<String, Value>) -> Value {
    if body.len() == 1
        && let Some(Value::Object(inner)) = body.get(service_type)
    {
        body = inner.clone();
    }
    if let Some(version) = body.get("proxyProtocol").and_then(|protocol| protocol.get("version")).cloned() {
        body.insert("proxyProtocol".into(), version);
    }
    let mut service = json!({ service_type: body });
    drop_empty(&mut service);
    service
}

/// Security headers that the daemon parses and forgets, as response headers that it sends. What is set by hand wins.
pub fn security_headers(body: &mut Map<String, Value>) {
    let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or(false);
    let text = |name: &str| {
        body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let mut headers: Vec<(&str, String)> = Vec::new();
    match text("customFrameOptionsValue") {
        Some(value) => headers.push(("X-Frame-Options", value)),
        None if flag("frameDeny") => headers.push(("X-Frame-Options", "DENY".into())),
        None => {}
    }
    if flag("contentTypeNosniff") {
        headers.push(("X-Content-Type-Options", "nosniff".into()));
    }
    match text("customBrowserXssValue") {
        Some(value) => headers.push(("X-XSS-Protection", value)),
        None if flag("browserXssFilter") => headers.push(("X-XSS-Protection", "1; mode=block".into())),
        None => {}
    }
    let seconds = body.get("stsSeconds").and_then(Value::as_u64).unwrap_or(0);
    if seconds > 0 {
        let mut value = format!("max-age={seconds}");
        for (field, word) in [("stsIncludeSubdomains", "; includeSubDomains"), ("stsPreload", "; preload")] {
            value.push_str(if flag(field) { word } else { "" });
        }
        headers.push(("Strict-Transport-Security", value));
    }
    for (field, header) in [
        ("contentSecurityPolicy", "Content-Security-Policy"),
        ("contentSecurityPolicyReportOnly", "Content-Security-Policy-Report-Only"),
        ("referrerPolicy", "Referrer-Policy"),
        ("permissionsPolicy", "Permissions-Policy"),
    ] {
        headers.extend(text(field).map(|value| (header, value)));
    }
    if headers.is_empty() {
        return;
    }
    let custom = body.entry("customResponseHeaders").or_insert_with(|| json!({}));
    if let Some(custom) = custom.as_object_mut() {
        for (name, value) in headers {
            if !custom.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                custom.insert(name.into(), value.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn empty_values_go_but_headers_may_be_empty() {
        let mut value = json!({ "a": "", "b": { "c": "", "d": 0 }, "l": [{ "e": "" }],
            "customRequestHeaders": { "X-Gone": "" } });
        drop_empty(&mut value);
        assert_eq!(value, json!({ "b": { "d": 0 }, "l": [{}], "customRequestHeaders": { "X-Gone": "" } }));
    }

    #[test]
    fn what_clients_store_becomes_what_the_daemon_reads() {
        let mut tls = json!({ "certResolver": "", "domains": "a.com, b.com" });
        router_tls(&mut tls);
        assert_eq!(tls, json!({ "domains": [{ "main": "a.com", "sans": ["b.com"] }] }));
        let doubled = json!({ "weighted": { "services": [{ "name": "x", "weight": 1 }] } });
        let unwrapped = stream_service("weighted", doubled.as_object().unwrap().clone());
        assert_eq!(unwrapped, doubled);
        let framed = json!({ "servers": [], "proxyProtocol": { "version": 2 } });
        let service = stream_service("loadBalancer", framed.as_object().unwrap().clone());
        assert_eq!(service, json!({ "loadBalancer": { "servers": [], "proxyProtocol": 2 } }));
    }

    #[test]
    fn security_headers_are_sent_unless_set_by_hand() {
        let mut body = json!({ "frameDeny": true, "stsSeconds": 60, "stsPreload": true, "referrerPolicy": "no-referrer",
            "customResponseHeaders": { "x-frame-options": "SAMEORIGIN" } });
        security_headers(body.as_object_mut().unwrap());
        assert_eq!(
            body["customResponseHeaders"],
            json!({ "x-frame-options": "SAMEORIGIN", "Strict-Transport-Security": "max-age=60; preload",
                "Referrer-Policy": "no-referrer" })
        );
    }

    #[test]
    fn rules_of_streams_that_the_daemon_takes_for_all() {
        for rule in ["*", "HostSNI(`*`)", "HostSNI(`a`, `b`)", "ClientIP(`10.0.0.0/8`,`::1`)"] {
            assert!(knows_stream_rule(rule, true), "{rule}");
        }
        for rule in ["", "*", " ClientIP(`10.0.0.1`) "] {
            assert!(knows_stream_rule(rule, false), "{rule}");
        }
        for rule in ["HostSNI(`a`)", "ClientIP(`10.0.0.0/99`)", "ClientIP(10.0.0.1)", "ClientIP(`::1`) || *"]
        {
            assert!(!knows_stream_rule(rule, false), "{rule}");
        }
        assert!(!knows_stream_rule("Host(`a`)", true));
        assert!(!knows_stream_rule("HostSNI(`a`) && ClientIP(`::1`)", true));
    }
}
