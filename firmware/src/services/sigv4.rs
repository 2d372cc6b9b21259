//! Signing of requests to Amazon's services (AWS Signature Version 4, "Create a signed AWS API request"). Pure.

use data_encoding::HEXLOWER;
use ring::{digest, hmac};

use crate::config::{Secret, Timestamp};

/// Whose requests, for which service where.
pub struct Signer<'a> {
    pub access_key_id: &'a str,
    pub secret: &'a Secret,
    pub region: &'a str,
    pub service: &'a str,
}

/// A request as it will be sent; names of headers in lower case and sorted, `host` among them.
pub struct Request<'a> {
    pub method: &'a str,
    /// As it is sent, percent-encoded.
    pub path: &'a str,
    /// Sorted, percent-encoded.
    pub query: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// `20150830T123600Z`, for the header `x-amz-date`.
pub fn date(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

impl Signer<'_> {
    /// The value of the header `authorization`. `date` is that of `x-amz-date`.
    pub fn authorization(&self, request: &Request<'_>, date: &str) -> String {
        let names = request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String =
            request.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{}",
            request.method,
            request.path,
            request.query,
            sha256(request.body)
        );
        let day = date.get(..8).unwrap_or(date);
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let mut key = mac(format!("AWS4{}", self.secret.expose()).as_bytes(), day);
        for part in [self.region, self.service, "aws4_request"] {
            key = mac(key.as_ref(), part);
        }
        let signature = HEXLOWER.encode(mac(key.as_ref(), &to_sign).as_ref());
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key_id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of Amazon's own description.
    #[test]
    fn the_documented_example() {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let signer =
            Signer { access_key_id: "AKIDEXAMPLE", secret: &secret, region: "us-east-1", service: "iam" };
        let request = Request {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            body: b"",
        };
        let signed = signer.authorization(&request, "20150830T123600Z");
        assert!(
            signed.ends_with("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
            "{signed}"
        );
        assert!(signed.contains("Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, "));
        let at: Timestamp = "2015-08-30T12:36:00Z".parse().unwrap_or_default();
        assert_eq!(date(at), "20150830T123600Z");
    }
}
