//! An appliance in process whose disk is a file, with a release key of its own.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use aifw::api::testing::{Answer, Client, bare_app};
use aifw::api::{self, App};
use aifw::update::gpt::Gpt;
use aifw::update::slots::image::FileDisk;
use aifw::update::testing::{Package, Signer, noise};
use aifw::update::this_version;
use serde_json::{Value, json};

use crate::server::Server;

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub signer: Signer,
    pub app: Arc<App>,
    pub client: Client,
}

pub fn image(seed: u64) -> Vec<u8> {
    noise(seed, 64 * 1024)
}

/// The version that runs before any update.
pub fn own() -> String {
    this_version().to_string()
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::new();
        std::fs::write(dir.path().join("release.keys"), format!("{}\n", signer.public())).unwrap();
        let (app, client) = turn_on(&dir);
        Self { dir, signer, app, client }
    }

    /// The power is cut and comes back.
    pub fn power_cycle(&mut self) {
        self.app.store.close();
        (self.app, self.client) = turn_on(&self.dir);
    }
    /// As after a boot in which everything was well.
    pub fn reboot(&mut self) {
        self.power_cycle();
        self.app.updater.confirm_boot().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn package(&self, version: &str, image: &[u8]) -> Package {
        Package::new(version, image).signed(&self.signer)
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.client.get(path).bearer("all").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
    pub async fn post(&self, path: &str) -> (u16, Value) {
        self.client.post(path).bearer("all").await
    }
    /// Uploads a form's parts: name, whether it is a file, content.
    pub async fn upload(&self, parts: &[(&str, bool, &[u8])]) -> Answer {
        let (kind, body) = form(parts);
        let request = self.client.post("/updates/aifw/install-local").bearer("all");
        request.header("Content-Type", kind).body(body).send().await
    }
    pub async fn install_file(&self, package: &[u8]) -> Answer {
        self.upload(&[("tarball", true, package)]).await
    }
    /// Has the appliance look for releases there.
    pub async fn look_at(&self, server: &Server) {
        let (status, body) = self.client.put("/updates/schedule").bearer("all").json(schedule(server)).await;
        assert_eq!(status, 200, "{body}");
    }
    pub async fn history(&self) -> Vec<(String, String, String)> {
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let rows = self.get("/updates/history").await;
        let rows = rows["data"].as_array().unwrap();
        rows.iter().map(|row| (text(row, "action"), text(row, "status"), text(row, "details"))).collect()
    }

    /// The first bytes of a slot; empty while there is no disk.
    pub fn slot(&self, label: &str, length: usize) -> Vec<u8> {
        let Ok(file) = std::fs::File::open(self.path("disk.img")) else { return Vec::new() };
        let mut disk = FileDisk::new(file.try_clone().unwrap());
        let partitions = Gpt::read(&mut disk).unwrap().partitions().unwrap();
        let slot = partitions.iter().find(|partition| partition.label == label).unwrap();
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, slot.first * 512).unwrap();
        bytes
    }
    /// All that an update may change: the disk, and the updater's memory of it.
    pub fn everything(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let names = ["disk.img", "update/state.json", "update/store-slot-a.redb", "update/store-slot-b.redb"];
        names.map(|name| (name.to_owned(), std::fs::read(self.path(name)).ok())).to_vec()
    }
    /// What uploads and downloads have left behind.
    pub fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("update/packages")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn turn_on(dir: &tempfile::TempDir) -> (Arc<App>, Client) {
    let app = Arc::new(bare_app(dir.path()));
    let client = Client::new(api::app(app.clone(), api::routes()));
    (app, client)
}

/// A form (RFC 7578): its media type, and its bytes.
pub fn form(parts: &[(&str, bool, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "----aifw-8d7f2c";
    let mut body = Vec::new();
    for (name, is_file, content) in parts {
        let file = if *is_file { "; filename=\"x.tar.xz\"\r\nContent-Type: application/x-xz" } else { "" };
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// A schedule that looks for releases at a server, and does nothing by itself.
pub fn schedule(server: &Server) -> Value {
    json!({
        "enabled": false, "day_of_week": "Sunday", "time": "03:00", "auto_check": true, "auto_install": false,
        "auto_reboot": false, "release_url": server.url("/latest"),
    })
}
