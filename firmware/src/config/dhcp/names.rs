//! Names in the DHCP area.

/// A domain name: labels of letters, digits, hyphens and underscores, 253 octets at most (RFC 1035 §2.3.4).
pub fn is_domain(text: &str) -> bool {
    let bare = text.strip_suffix('.').unwrap_or(text);
    (1..=253).contains(&bare.len()) && bare.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A host's own label: letters, digits and hyphens.
pub fn is_host(text: &str) -> bool {
    is_label(text) && !text.contains('_')
}

/// Six octets in hexadecimal with `:` or `-`, in lower case with `:`.
pub fn mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let octet = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (parts.len() == 6 && parts.iter().all(octet)).then(|| parts.join(":").to_ascii_lowercase())
}

/// Hexadecimal digits, an even number of them; separators are dropped.
pub fn client_id(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | ' ')).collect();
    let fits = !digits.is_empty() && digits.len().is_multiple_of(2) && digits.len() <= 510;
    (fits && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| digits.to_ascii_lowercase())
}
