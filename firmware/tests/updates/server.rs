//! A release server on loopback: documents by path, with ETags, ranges, breaks and stalls.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::json;

/// What is at a path.
#[derive(Clone, Default)]
pub struct Document {
    pub status: u16,
    pub body: Vec<u8>,
    pub etag: Option<String>,
    /// Every answer breaks off after so many bytes of the body.
    pub breaks_after: Option<usize>,
}

#[derive(Default)]
struct Inside {
    documents: HashMap<String, Document>,
    /// Path and `Range` of each request.
    log: Vec<(String, Option<String>)>,
    /// Requests wait.
    held: bool,
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    inside: Arc<(Mutex<Inside>, Condvar)>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), inside: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                std::thread::spawn(move || server.answer(stream));
            }
        });
        server
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
    pub fn put(&self, path: &str, document: Document) {
        self.inside.0.lock().unwrap().documents.insert(path.into(), document);
    }
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Document)) {
        change(self.inside.0.lock().unwrap().documents.get_mut(path).unwrap());
    }
    /// Path and `Range` of each request for what ends so.
    pub fn asked(&self, end: &str) -> Vec<Option<String>> {
        let inside = self.inside.0.lock().unwrap();
        inside.log.iter().filter(|(path, _)| path.ends_with(end)).map(|(_, range)| range.clone()).collect()
    }
    pub fn hold(&self, held: bool) {
        self.inside.0.lock().unwrap().held = held;
        self.inside.1.notify_all();
    }

    /// Publishes a package as the latest release, at `/latest`.
    pub fn release(&self, version: &str, notes: &str, file: &str, package: &[u8]) {
        let path = format!("/files/{file}");
        let sum = aifw::update::testing::sha256(package);
        let document = json!({
            "tag_name": format!("v{version}"), "body": notes, "published_at": "2026-11-01T10:00:00Z",
            "draft": false, "prerelease": false,
            "assets": [
                { "name": file, "browser_download_url": self.url(&path) },
                { "name": format!("{file}.sha256"), "browser_download_url": self.url(&format!("{path}.sha256")) },
            ],
        });
        let found = |body: Vec<u8>| Document { status: 200, body, ..Document::default() };
        self.put("/latest", found(document.to_string().into_bytes()));
        self.put(&format!("{path}.sha256"), found(format!("SHA256 ({file}) = {sum}\n").into_bytes()));
        self.put(&path, Document { etag: Some(format!("\"{sum}\"")), ..found(package.to_vec()) });
    }

    fn answer(&self, stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers: HashMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            })
            .collect();
        let document = {
            let mut inside = self.inside.0.lock().unwrap();
            inside.log.push((path.clone(), headers.get("range").cloned()));
            while inside.held {
                inside = self.inside.1.wait(inside).unwrap();
            }
            let missing = Document { status: 404, ..Document::default() };
            inside.documents.get(&path).cloned().unwrap_or(missing)
        };
        let same = document.etag.is_some() && headers.get("if-range") == document.etag.as_ref();
        let from = headers
            .get("range")
            .filter(|_| same)
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let size = document.body.len();
        let etag = document.etag.map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
        let (status, range, from) = match from {
            Some(from) if from >= size => (416, String::new(), size),
            Some(from) => (206, format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1), from),
            None => (document.status, String::new(), 0),
        };
        let body = &document.body[from..];
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{etag}{range}Connection: close\r\n\r\n",
            body.len()
        );
        let sent = document.breaks_after.unwrap_or(body.len()).min(body.len());
        let mut stream = stream;
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent])).ok();
    }
}
