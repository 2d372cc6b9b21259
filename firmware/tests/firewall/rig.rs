//! An appliance in a temporary directory, with the simulator as its packet filter.

use std::sync::Arc;

use aifw::api::testing::{Client, app_with_pf};
use aifw::api::{self, App};
use aifw::pf::Pf;
use aifw::pf::absent::Absent;
use aifw::pf::sim::Simulator;
use aifw::store::{AuditEntry, AuditFilter};
use serde_json::Value;

pub struct Rig {
    pub app: Arc<App>,
    pub client: Client,
    pub pf: Arc<dyn Pf>,
    /// Holds every permission.
    _dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Self {
        Self::with_pf(Arc::new(Simulator::default()))
    }

    pub fn without_pf() -> Self {
        Self::with_pf(Arc::new(Absent))
    }

    fn with_pf(pf: Arc<dyn Pf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(app_with_pf(dir.path(), pf.clone()));
        let client = Client::new(api::app(app.clone(), api::routes())).with_bearer("all");
        Self { app, client, pf, _dir: dir }
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.client.get(path).await
    }
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.client.post(path).json(body).await
    }
    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.client.put(path).json(body).await
    }
    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.client.delete(path).await
    }

    /// Creates an object and gives it as answered.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body.clone()).await;
        assert_eq!(status, 201, "{path} {body} gave {answer}");
        answer["data"].clone()
    }

    pub async fn list(&self, path: &str) -> Vec<Value> {
        let (status, answer) = self.get(path).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].as_array().unwrap().clone()
    }

    /// One field of every object of a list.
    pub async fn column(&self, path: &str, field: &str) -> Vec<Value> {
        self.list(path).await.iter().map(|row| row[field].clone()).collect()
    }

    /// Newest first.
    pub fn audit(&self) -> Vec<AuditEntry> {
        let filter = AuditFilter { limit: 1000, ..AuditFilter::default() };
        self.app.store.audit(&filter).unwrap().0
    }
}

pub fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}
