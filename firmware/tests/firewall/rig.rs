//! An appliance in a temporary directory, with the simulator as its packet filter.

use std::sync::Arc;

use aifw::api::testing::{Client, app_with_pf};
use aifw::api::{self, App};
use aifw::config::{Config, InterfaceName};
use aifw::pf::Pf;
use aifw::pf::absent::Absent;
use aifw::pf::sim::{SimInterface, Simulator};
use aifw::store::{AuditEntry, AuditFilter, Author};
use serde_json::Value;

pub struct Rig {
    pub app: Arc<App>,
    /// Holds every permission.
    pub client: Client,
    pub pf: Arc<dyn Pf>,
    /// What `pf` is in the end, unless there is none.
    pub simulator: Arc<Simulator>,
    pub dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Self {
        Self::around(|simulator| simulator)
    }

    /// With a packet filter that has the simulator inside.
    pub fn around<P: Pf + 'static>(wrap: impl FnOnce(Arc<Simulator>) -> Arc<P>) -> Self {
        let interface =
            |name: &str, own: &str| SimInterface::new(name, [own.parse::<ipnet::IpNet>().unwrap()]);
        // As the machine of these tests has them.
        let simulator = Arc::new(Simulator::new(vec![
            interface("em0", "203.0.113.2/24").with_gateway("203.0.113.1".parse().unwrap()),
            interface("em1", "192.168.1.1/24"),
        ]));
        let rig = Self::with_pf(wrap(simulator.clone()), simulator);
        let root = rig.dir.path().join("root");
        rig.simulator.set_files(move |name| std::fs::read_to_string(root.join(name.trim_start_matches('/'))));
        rig
    }

    pub fn without_pf() -> Self {
        Self::with_pf(Arc::new(Absent), Arc::default())
    }

    fn with_pf(pf: Arc<dyn Pf>, simulator: Arc<Simulator>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(app_with_pf(dir.path(), pf.clone()));
        let client = Client::new(api::app(app.clone(), api::routes())).with_bearer("all");
        Self { app, client, pf, simulator, dir }
    }

    /// As setting up makes it: em0 is the WAN, em1 the LAN.
    pub async fn with_roles(self) -> Self {
        self.configure(|config| {
            let system = Arc::make_mut(&mut config.system);
            system.wan_interface = Some(InterfaceName::new("em0").unwrap());
            system.lan_interface = Some(InterfaceName::new("em1").unwrap());
        })
        .await;
        self
    }

    /// Changes what no route of this area changes.
    pub async fn configure(&self, change: impl FnOnce(&mut Config) + Send + 'static) {
        let changed = self.app.store.commit(&Author::system("test"), move |draft| {
            change(&mut draft.config);
            Ok::<_, api::ApiError>(())
        });
        changed.await.unwrap();
    }

    /// Applies what is stored.
    pub async fn reload(&self) {
        let (status, answer) = self.post("/reload", serde_json::json!({"confirm": true})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Translation, then filter lines of an anchor, as pf has them.
    pub fn lines(&self, anchor: &str) -> Vec<String> {
        let (translation, filter) = self.pf.rules(Some(anchor)).unwrap_or_default();
        translation.into_iter().chain(filter).map(|rule| rule.text).collect()
    }

    /// Entries of a table, sorted; none where there is no such table.
    pub fn table(&self, name: &str) -> Vec<String> {
        let mut entries = self.pf.table(&name.parse().unwrap()).unwrap_or_default();
        entries.sort();
        entries
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
