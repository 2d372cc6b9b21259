//! An appliance in process, with the simulator as its packet filter.

use std::path::Path;
use std::sync::Arc;

use aifw::api::testing::{Client, app_with_pf};
use aifw::api::{self, App};
use aifw::pf::sim::{SimInterface, Simulator};
use aifw::store::AuditFilter;
use serde_json::Value;

pub struct Rig {
    pub app: Arc<App>,
    /// Holds every permission.
    pub client: Client,
    pub pf: Arc<Simulator>,
}

impl Rig {
    /// What was stored in the directory is there again.
    pub fn new(dir: &Path) -> Self {
        let own = |text: &str| [text.parse::<ipnet::IpNet>().unwrap()];
        let pf = Arc::new(Simulator::new(vec![
            SimInterface::new("em0", own("203.0.113.2/24")),
            SimInterface::new("em1", own("192.168.1.1/24")),
        ]));
        let app = Arc::new(app_with_pf(dir, pf.clone()));
        let client = Client::new(api::app(app.clone(), api::routes())).with_bearer("all");
        Self { app, client, pf }
    }

    pub async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, path);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await;
        (answer.status, answer.json())
    }
    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }
    /// A refusal, as the text that people read.
    pub async fn refused(&self, expected: u16, method: &str, path: &str, body: Value) -> String {
        let (status, answer) = self.send(method, path, body.clone()).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
        assert_eq!(answer["error"], answer["message"]);
        answer["message"].as_str().unwrap().to_owned()
    }
    /// What the audit says.
    pub fn audited(&self) -> String {
        let filter = AuditFilter { limit: 1000, ..AuditFilter::default() };
        let (entries, _) = self.app.store.audit(&filter).unwrap();
        entries.into_iter().map(|entry| format!("{}: {}\n", entry.source, entry.details)).collect()
    }
}
