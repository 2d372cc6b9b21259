//! Sets from a mirror: one that breaks off, one that sends something else, one that does not answer.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::bench::{Bench, errors};

/// A mirror on loopback that serves a directory. Each first answer for a set breaks off in the middle.
struct Mirror {
    url: String,
    /// Requests so far: path and where it was to begin.
    requests: Arc<Mutex<Vec<(String, usize)>>>,
}

impl Mirror {
    fn of(directory: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/releases/15.1", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<(String, usize)>>> = Arc::default();
        let seen = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut first, mut begin) = (String::new(), 0);
                reader.read_line(&mut first).unwrap();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                        begin = range.trim().trim_end_matches('-').parse().unwrap();
                    }
                }
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let name = path.rsplit('/').next().unwrap().to_owned();
                let is_first = {
                    let mut seen = seen.lock().unwrap();
                    let is_first = !seen.iter().any(|(before, _)| *before == path);
                    seen.push((path, begin));
                    is_first
                };
                let bytes = fs::read(directory.join(&name)).unwrap();
                let rest = &bytes[begin.min(bytes.len())..];
                let status = if begin > 0 { "206 Partial Content" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    rest.len()
                );
                // The other side may have gone.
                let _ = stream.write_all(head.as_bytes());
                let sent = if is_first && name.ends_with(".txz") { &rest[..rest.len() / 2] } else { rest };
                let _ = stream.write_all(sent);
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<(String, usize)> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .map(|(path, begin)| (path.rsplit('/').next().unwrap().to_owned(), *begin))
            .collect()
    }
}

#[test]
fn a_download_that_breaks_off_is_resumed_and_one_that_is_there_is_not_repeated() {
    let bench = Bench::new();
    let mirror = Mirror::of(bench.path("sets"));
    let output = bench.build("a.img", &["--mirror", &mirror.url]);
    assert!(output.status.success(), "{}", errors(&output));
    let half = |name: &str| fs::metadata(bench.path("sets").join(name)).unwrap().len() as usize / 2;
    let expected = [
        ("MANIFEST".to_owned(), 0),
        ("base.txz".to_owned(), 0),
        ("base.txz".to_owned(), half("base.txz")),
        ("kernel.txz".to_owned(), 0),
        ("kernel.txz".to_owned(), half("kernel.txz")),
    ];
    assert_eq!(mirror.requests(), expected);
    let output = bench.build("b.img", &["--mirror", &mirror.url]);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(mirror.requests()[5..], [("MANIFEST".to_owned(), 0)], "the sets are in the cache");
    assert!(fs::read(bench.path("a.img")).unwrap() == fs::read(bench.path("b.img")).unwrap());
}

#[test]
fn what_is_not_as_manifest_says_is_thrown_away() {
    let bench = Bench::new();
    fs::write(bench.path("sets/base.txz"), "something else").unwrap();
    let mirror = Mirror::of(bench.path("sets"));
    let output = bench.build("a.img", &["--mirror", &mirror.url]);
    assert!(!output.status.success());
    assert!(errors(&output).contains("it was thrown away"), "{}", errors(&output));
    let cache = bench.path("cache/aifw/freebsd");
    let kept: Vec<_> =
        walk(&cache).into_iter().filter(|path| path.to_string_lossy().contains("base")).collect();
    assert!(kept.is_empty(), "{kept:?}");
}

fn walk(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_mirror_that_does_not_answer_ends_in_one_sentence_that_names_the_other_way() {
    let bench = Bench::new();
    // A port that was free a moment ago, on which nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = bench.build("a.img", &["--mirror", &url]);
    assert!(!output.status.success());
    let told = errors(&output);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with(&format!("error: {url}/MANIFEST does not answer (")), "{told}");
    assert!(told.contains("give FreeBSD's base.txz and kernel.txz with --sets DIR"), "{told}");
    let output = bench.build("a.img", &["--mirror", "ftp://ftp.example.org"]);
    assert!(
        errors(&output).contains("a mirror's address begins with http:// or https://"),
        "{}",
        errors(&output)
    );
}
