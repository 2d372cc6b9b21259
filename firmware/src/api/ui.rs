//! The static web UI: files of one directory at `/`, with `index.html` for the paths that the UI's own router
//! knows. Never leaves the directory, never serves a dot-file.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::tree::percent_decode;
use super::{ApiError, Reply};

/// A directory that is served.
pub(super) struct Ui {
    root: PathBuf,
}

/// Larger files are not part of a web UI.
const LARGEST: u64 = 64 * 1024 * 1024;

struct File {
    bytes: Vec<u8>,
    etag: String,
    modified: String,
    content_type: &'static str,
}

impl Ui {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The answer to a GET of `path` (percent-encoded): 200, 304 or 404.
    pub(super) async fn page(
        &self,
        path: &str,
        headers: &HashMap<String, String>,
    ) -> Result<Reply, ApiError> {
        let segments = segments(path).ok_or_else(|| ApiError::not_found(path))?;
        let is_page = segments.last().is_none_or(|last| !last.contains('.'))
            || headers.get("accept").is_some_and(|accept| accept.contains("text/html"));
        let root = self.root.clone();
        let found = blocking::unblock(move || find(&root, &segments, is_page)).await;
        let file = found.map_err(ApiError::internal)?.ok_or_else(|| ApiError::not_found(path))?;
        let same = match headers.get("if-none-match") {
            Some(tags) => tags.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == file.etag
            }),
            None => headers.get("if-modified-since") == Some(&file.modified),
        };
        let reply = if same { Reply::empty(304) } else { Reply::bytes(200, file.content_type, file.bytes) };
        Ok(reply
            .with_header("ETag", file.etag)
            .with_header("Last-Modified", file.modified)
            .with_header("Cache-Control", "no-cache"))
    }
}

/// The path's segments, decoded; `None` if one of them could lead out of the directory or names a dot-file.
fn segments(path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = percent_decode(segment)?;
        if segment.starts_with('.') || segment.contains(['/', '\\', '\0']) {
            return None;
        }
        segments.push(segment.into_owned());
    }
    Some(segments)
}

fn find(root: &Path, segments: &[String], is_page: bool) -> io::Result<Option<File>> {
    let root = root.canonicalize()?;
    let wanted = segments.iter().fold(root.clone(), |path, segment| path.join(segment));
    let mut candidates = vec![wanted.clone(), wanted.join("index.html")];
    if is_page {
        if !segments.is_empty() {
            let mut page = wanted.into_os_string();
            page.push(".html");
            candidates.push(page.into());
        }
        candidates.push(root.join("index.html"));
    }
    for candidate in candidates {
        if let Some(file) = read(&root, &candidate)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// The file, if there is one and it lies inside `root` after all symbolic links.
fn read(root: &Path, path: &Path) -> io::Result<Option<File>> {
    let path = match path.canonicalize() {
        Ok(path) if path.starts_with(root) => path,
        _ => return Ok(None),
    };
    let mut file = fs::File::open(&path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Ok(None);
    }
    let modified = metadata.modified()?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(Some(File {
        etag: format!("\"{:x}-{:x}\"", bytes.len(), since.as_nanos()),
        modified: http_date(since.as_secs()),
        content_type: content_type(&path),
        bytes,
    }))
}

/// IMF-fixdate (RFC 9110 §5.6.7) of a Unix time.
pub(crate) fn http_date(unix_seconds: u64) -> String {
    let seconds = i64::try_from(unix_seconds).unwrap_or(0);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in
            ["/../etc/passwd", "/%2e%2e/etc", "/a/..%2f..%2fetc", "/.git/config", "/a%00b", "/a\\b", "/%zz"]
        {
            assert_eq!(segments(path), None, "{path}");
        }
        assert_eq!(segments("/assets//app.js"), Some(vec!["assets".into(), "app.js".into()]));
        assert_eq!(segments("/"), Some(Vec::new()));
    }

    #[test]
    fn dates_as_http_writes_them() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
