//! A plain collection, declared and not written out: [`Resource`] says what is special about a kind of object,
//! [`collection`] makes its operations (list, get, create, replace, delete), [`Lists`] serialises its list once
//! for each state of the store. Used by the area files; knows no area.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reply::JSON;
use super::{Access, ApiError, App, Call, Reply, Route};
use crate::compile::Environment;
use crate::config::{Collection, Config, Id, Object, Permission, Refusal, Timestamp, request};
use crate::store::{Author, Draft, NewAudit, Snapshot};

/// `{"data": …}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Data<T> {
    pub data: T,
}

/// `{"data": […], "total": n}`: `total` counts all, also those that `limit` and `offset` leave out.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListOf<T> {
    pub data: Vec<T>,
    pub total: usize,
}

/// `{"message": text}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Message {
    pub message: String,
}

/// `{"data": …, "warnings": […]}`: what is stored, and what about it may not be as its author expects.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Warned<T> {
    pub data: T,
    pub warnings: Vec<String>,
}

/// What pf counted for an object; all null while pf holds no line of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counters {
    /// How often pf looked at its lines.
    pub evaluations: Option<u64>,
    pub packets: Option<u64>,
    pub bytes: Option<u64>,
    /// States that it has made and that are still there.
    pub states: Option<u64>,
}

/// What a write did to an object.
#[derive(Debug, Clone, Copy)]
pub enum Written<'a, T> {
    Added(&'a T),
    Replaced { before: &'a T, after: &'a T },
    Removed(&'a T),
}

impl<'a, T> Written<'a, T> {
    /// The object as it is now, or was last.
    pub fn object(&self) -> &'a T {
        match self {
            Self::Added(object) | Self::Removed(object) => object,
            Self::Replaced { after, .. } => after,
        }
    }
    /// `added`, `updated` or `removed`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::Replaced { .. } => "updated",
            Self::Removed(_) => "removed",
        }
    }
}

/// One kind of object with a collection of its own.
pub trait Resource: Send + Sync + Sized + 'static {
    type Object: Object<Key = Id>;
    /// Body of POST and PUT.
    type Request: DeserializeOwned + JsonSchema + Clone + Send + 'static;
    /// The object as answers show it, without `in_effect`.
    type View<'a>: Serialize;
    /// The schema of a view with `in_effect`.
    type Schema: JsonSchema;
    /// The schema of the answer to POST and PUT.
    type Answer: JsonSchema;
    /// What views need beside the object; two equal contexts give equal views.
    type Context: Clone + PartialEq + Send + Sync + 'static;
    type Order: Ord;

    /// `/rules`, and `/rules/{id}`.
    const PATHS: (&'static str, &'static str);
    /// In messages: `rule`.
    const NOUN: &'static str;
    /// Of list, create, get, replace and delete.
    const SUMMARIES: [&'static str; 5];
    const READ: Permission;
    const WRITE: Permission;
    /// Whether single objects can be read, by `GET` of the second path.
    const HAS_GET: bool = true;
    /// Whether `?counters=true` adds [`Counters`] to each object of an answer.
    const COUNTS: bool = false;
    /// Status for an id that is no UUID.
    const BAD_ID: u16 = 400;

    fn collection(config: &Config) -> &Collection<Self::Object>;
    fn collection_mut(config: &mut Config) -> &mut Collection<Self::Object>;
    fn create(request: Self::Request, now: Timestamp, config: &Config) -> Result<Self::Object, Refusal>;
    fn replace(
        request: Self::Request,
        stored: &Self::Object,
        now: Timestamp,
        config: &Config,
    ) -> Result<Self::Object, Refusal>;
    /// Refuses to delete what is still needed.
    fn may_delete(_: &Config, _: &Self::Object) -> Result<(), Refusal> {
        Ok(())
    }
    /// What a write changes beside the object: renamed references and the like. Part of the same commit.
    fn follow(_: &mut Config, _: &Written<Self::Object>) {}
    /// Place in the list.
    fn order(object: &Self::Object) -> Self::Order;
    fn context(app: &App) -> impl Future<Output = Self::Context> + Send;
    fn view<'a>(object: &'a Self::Object, context: &'a Self::Context) -> Self::View<'a>;
    /// What the machine is like, for resources whose lines depend on it.
    fn environment(_: &App) -> impl Future<Output = Environment> + Send {
        std::future::ready(Environment::empty())
    }
    /// Refuses, before anything is stored, what the machine would not take.
    fn rehearse(
        _: &App,
        _: &Environment,
        _: &Config,
        _: Self::Object,
    ) -> impl Future<Output = Result<(), ApiError>> + Send {
        std::future::ready(Ok(()))
    }
    /// What about a stored object may surprise its author; `None` where answers have no warnings.
    fn warnings(_: &Config, _: &Environment, _: &Self::Object) -> Option<Vec<String>> {
        None
    }
    /// What pf has counted, by object. Asked only where [`Resource::COUNTS`].
    fn counters(_: &App) -> impl Future<Output = HashMap<Id, Counters>> + Send {
        std::future::ready(HashMap::new())
    }
    /// The audit entry of a write; the user's name is in `author`.
    fn audit(
        author: &Author,
        written: &Written<Self::Object>,
        draft: &Draft,
        environment: &Environment,
    ) -> NewAudit;
    /// `Rule <id> deleted`.
    fn deleted(id: &Id) -> String;
    /// What acts at once on a write, after its commit; `undo` takes the write back.
    fn act(_: &App, _: &Author, _: Undo<Self::Object>) -> impl Future<Output = Result<(), ApiError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// A write that may have to be taken back: what was there before, and what is there now.
#[derive(Debug)]
pub struct Undo<T> {
    pub before: Option<Arc<T>>,
    pub after: Option<Arc<T>>,
}

/// Operations of a collection. `lists` may be shared with operations that the area adds itself.
pub fn collection<R: Resource>(lists: &Arc<Lists<R>>) -> Vec<Route> {
    let (all, one) = R::PATHS;
    let (read, write) = (Access::Needs(R::READ), Access::Needs(R::WRITE));
    let lists = lists.clone();
    let [on_list, on_create, on_get, on_replace, on_delete] = R::SUMMARIES;
    let mut routes = vec![
        Route::new("GET", all, read, on_list, move |call| list(lists.clone(), call))
            .answers::<ListOf<R::Schema>>(200)
            .with_query(if R::COUNTS { PAGING_AND_COUNTERS } else { PAGING }),
        Route::new("POST", all, write, on_create, create::<R>)
            .takes::<R::Request>()
            .answers::<R::Answer>(201),
        Route::new("PUT", one, write, on_replace, replace::<R>)
            .takes::<R::Request>()
            .answers::<R::Answer>(200),
        Route::new("DELETE", one, write, on_delete, delete::<R>).answers::<Message>(200),
    ];
    if R::HAS_GET {
        let route = Route::new("GET", one, read, on_get, get::<R>).answers::<Data<R::Schema>>(200);
        routes.push(if R::COUNTS { route.with_query(COUNTERS) } else { route });
    }
    routes
}

pub const PAGING: &[(&str, &str)] =
    &[("limit", "at most this many rows; all unless given"), ("offset", "rows to leave out at the start")];
const COUNTERS: &[(&str, &str)] =
    &[("counters", "true adds evaluations, packets, bytes and states, as pf counts them")];
const PAGING_AND_COUNTERS: &[(&str, &str)] = &[PAGING[0], PAGING[1], COUNTERS[0]];

/// What pf has counted, if the request asks for it.
async fn wanted_counters<R: Resource>(call: &Call) -> Result<Option<HashMap<Id, Counters>>, ApiError> {
    if !R::COUNTS || call.query_as::<bool>("counters", "true or false")? != Some(true) {
        return Ok(None);
    }
    Ok(Some(R::counters(&call.app).await))
}

/// Appends figures to a serialised object.
fn add_counters(row: &mut Vec<u8>, counters: Counters) {
    row.pop();
    row.push(b',');
    // Numbers in a struct: serialising them has no way to fail.
    let figures = serde_json::to_vec(&counters).unwrap_or_default();
    row.extend_from_slice(figures.get(1..).unwrap_or_default());
}

/// The object's id in the path.
pub fn id_of<R: Resource>(call: &Call) -> Result<Id, ApiError> {
    call.id("id").map_err(|error| match R::BAD_ID {
        404 => ApiError::not_found(format!("{} {}", R::NOUN, call.param("id"))),
        _ => error,
    })
}

fn missing<R: Resource>(id: &Id) -> ApiError {
    ApiError::not_found(format!("{} {id}", R::NOUN))
}

/// An object as an answer shows it: its view, and whether the applied configuration holds it exactly.
fn shown<R: Resource>(
    object: &R::Object,
    in_effect: bool,
    context: &R::Context,
    counters: Option<Counters>,
) -> Vec<u8> {
    let mut text = br#"{"data":"#.to_vec();
    text.extend(open_fragment::<R>(object, context));
    text.extend_from_slice(tail(in_effect));
    if let Some(counters) = counters {
        add_counters(&mut text, counters);
    }
    text.push(b'}');
    text
}

/// The view without its closing brace.
fn open_fragment<R: Resource>(object: &R::Object, context: &R::Context) -> Vec<u8> {
    // Views are plain structs: serialising one into memory has no way to fail.
    let mut text = serde_json::to_vec(&R::view(object, context)).unwrap_or_default();
    text.pop();
    text
}

fn tail(in_effect: bool) -> &'static [u8] {
    if in_effect { br#","in_effect":true}"# } else { br#","in_effect":false}"# }
}

fn in_effect<R: Resource>(applied: &Config, object: &Arc<R::Object>) -> bool {
    let held = R::collection(applied).get(&object.key());
    held.is_some_and(|held| Arc::ptr_eq(held, object) || held == object)
}

async fn get<R: Resource>(call: Call) -> Result<Reply, ApiError> {
    let id = id_of::<R>(&call)?;
    let snapshot = call.app.store.snapshot();
    let object = R::collection(&snapshot.config).get(&id).ok_or_else(|| missing::<R>(&id))?;
    let counters = wanted_counters::<R>(&call).await?.map(|all| all.get(&id).copied().unwrap_or_default());
    let context = R::context(&call.app).await;
    let in_effect = in_effect::<R>(&snapshot.applied, object);
    Ok(Reply::bytes(200, JSON, shown::<R>(object, in_effect, &context, counters)))
}

async fn create<R: Resource>(call: Call) -> Result<Reply, ApiError> {
    let wanted: R::Request = request::parse(&call.body)?;
    let environment = R::environment(&call.app).await;
    let snapshot = call.app.store.snapshot();
    let candidate = R::create(wanted.clone(), Timestamp::now(), &snapshot.config)?;
    R::rehearse(&call.app, &environment, &snapshot.config, candidate).await?;
    let author = call.author();
    let (by, known) = (author.clone(), environment.clone());
    let object = call
        .app
        .store
        .commit(&author, move |draft| {
            let object = R::create(wanted, draft.now, &draft.config)?;
            let id = object.key();
            let audit = R::audit(&by, &Written::Added(&object), draft, &known);
            draft.audit.push(audit);
            R::collection_mut(&mut draft.config).insert(object);
            R::collection(&draft.config).get(&id).cloned().ok_or_else(|| missing::<R>(&id))
        })
        .await?;
    R::act(&call.app, &author, Undo { before: None, after: Some(object.clone()) }).await?;
    answer::<R>(&call, &object, &environment, 201).await
}

async fn replace<R: Resource>(call: Call) -> Result<Reply, ApiError> {
    let id = id_of::<R>(&call)?;
    let wanted: R::Request = request::parse(&call.body)?;
    let environment = R::environment(&call.app).await;
    let snapshot = call.app.store.snapshot();
    let stored = R::collection(&snapshot.config).get(&id).ok_or_else(|| missing::<R>(&id))?;
    let candidate = R::replace(wanted.clone(), stored, Timestamp::now(), &snapshot.config)?;
    R::rehearse(&call.app, &environment, &snapshot.config, candidate).await?;
    let author = call.author();
    let (by, known) = (author.clone(), environment.clone());
    let (before, after) = call
        .app
        .store
        .commit(&author, move |draft| {
            let stored = R::collection(&draft.config).get(&id).cloned().ok_or_else(|| missing::<R>(&id))?;
            let after = R::replace(wanted, &stored, draft.now, &draft.config)?;
            let written = Written::Replaced { before: &*stored, after: &after };
            let audit = R::audit(&by, &written, draft, &known);
            draft.audit.push(audit);
            // What changes nothing stays the same object, and so in effect and out of the history.
            if after != *stored {
                R::collection_mut(&mut draft.config).insert(after.clone());
                R::follow(&mut draft.config, &Written::Replaced { before: &stored, after: &after });
            }
            let after = R::collection(&draft.config).get(&id).cloned().ok_or_else(|| missing::<R>(&id))?;
            Ok::<_, ApiError>((stored, after))
        })
        .await?;
    if !Arc::ptr_eq(&before, &after) {
        R::act(&call.app, &author, Undo { before: Some(before), after: Some(after.clone()) }).await?;
    }
    answer::<R>(&call, &after, &environment, 200).await
}

async fn delete<R: Resource>(call: Call) -> Result<Reply, ApiError> {
    let id = id_of::<R>(&call)?;
    let environment = R::environment(&call.app).await;
    let author = call.author();
    let by = author.clone();
    let gone = call
        .app
        .store
        .commit(&author, move |draft| {
            let stored = R::collection(&draft.config).get(&id).cloned().ok_or_else(|| missing::<R>(&id))?;
            R::may_delete(&draft.config, &stored)?;
            let audit = R::audit(&by, &Written::Removed(&stored), draft, &environment);
            draft.audit.push(audit);
            R::collection_mut(&mut draft.config).remove(&id);
            R::follow(&mut draft.config, &Written::Removed(&stored));
            Ok::<_, ApiError>(stored)
        })
        .await?;
    R::act(&call.app, &author, Undo { before: Some(gone), after: None }).await?;
    Ok(Reply::message(R::deleted(&id)))
}

async fn answer<R: Resource>(
    call: &Call,
    object: &Arc<R::Object>,
    environment: &Environment,
    status: u16,
) -> Result<Reply, ApiError> {
    let context = R::context(&call.app).await;
    let snapshot = call.app.store.snapshot();
    let mut body = shown::<R>(object, in_effect::<R>(&snapshot.applied, object), &context, None);
    if let Some(warnings) = R::warnings(&snapshot.config, environment, object) {
        body.pop();
        body.extend_from_slice(br#","warnings":"#);
        // Text: serialising it has no way to fail.
        body.extend(serde_json::to_vec(&warnings).unwrap_or_default());
        body.push(b'}');
    }
    Ok(Reply::bytes(status, JSON, body))
}

async fn list<R: Resource>(lists: Arc<Lists<R>>, call: Call) -> Result<Reply, ApiError> {
    let page = match (call.query("limit"), call.query("offset")) {
        (None, None) => None,
        _ => Some(call.page(usize::MAX, usize::MAX)?),
    };
    let counters = wanted_counters::<R>(&call).await?;
    let context = R::context(&call.app).await;
    let list = lists.of(call.app.store.snapshot(), context).await;
    let total = list.places.len();
    let reply = match (page, counters) {
        (None, None) => Reply::shared(JSON, list.body.clone()),
        (page, counters) => {
            let (offset, limit) = page.map_or((0, usize::MAX), |page| (page.offset, page.limit));
            Reply::bytes(200, JSON, list.page(offset, limit, counters.as_ref()))
        }
    };
    Ok(reply.with_header("X-Total-Count", total.to_string()))
}

/// The list of a collection, serialised.
pub struct Serialised<R: Resource> {
    config: Collection<R::Object>,
    applied: Collection<R::Object>,
    context: R::Context,
    /// The whole answer.
    body: Arc<[u8]>,
    /// Rows in list order.
    places: Vec<Place<R::Object>>,
}

struct Place<T> {
    object: Arc<T>,
    /// The row in the body, braces included.
    row: Range<usize>,
    in_effect: bool,
}

const HEAD: &[u8] = br#"{"data":["#;

impl<R: Resource> Serialised<R> {
    fn is_for(&self, snapshot: &Snapshot, context: &R::Context) -> bool {
        self.config.same(R::collection(&snapshot.config))
            && self.applied.same(R::collection(&snapshot.applied))
            && self.context == *context
    }

    /// Rows of objects that `old` has too are copied from it.
    fn build(snapshot: &Snapshot, context: R::Context, old: Option<&Self>) -> Self {
        let config = R::collection(&snapshot.config);
        let old = old.filter(|old| old.context == context);
        let known: HashMap<*const R::Object, &[u8]> = old
            .map(|old| {
                old.places
                    .iter()
                    .filter_map(|place| {
                        let open = place.row.start..place.row.end - tail(place.in_effect).len();
                        Some((Arc::as_ptr(&place.object), old.body.get(open)?))
                    })
                    .collect()
            })
            .unwrap_or_default();
        let mut objects: Vec<Arc<R::Object>> = config.iter().cloned().collect();
        objects.sort_by_cached_key(|object| R::order(object));
        let mut body = Vec::with_capacity(old.map_or(1024, |old| old.body.len() + 1024));
        body.extend_from_slice(HEAD);
        let mut places = Vec::with_capacity(objects.len());
        for object in objects {
            if !places.is_empty() {
                body.push(b',');
            }
            let start = body.len();
            match known.get(&Arc::as_ptr(&object)) {
                Some(open) => body.extend_from_slice(open),
                None => body.extend(open_fragment::<R>(&object, &context)),
            }
            let in_effect = in_effect::<R>(&snapshot.applied, &object);
            body.extend_from_slice(tail(in_effect));
            places.push(Place { object, row: start..body.len(), in_effect });
        }
        body.extend_from_slice(foot(places.len()).as_bytes());
        let applied = R::collection(&snapshot.applied).clone();
        Self { config: config.clone(), applied, context, body: body.into(), places }
    }

    fn page(&self, offset: usize, limit: usize, counters: Option<&HashMap<Id, Counters>>) -> Vec<u8> {
        let mut body = HEAD.to_vec();
        for (number, place) in self.places.iter().skip(offset).take(limit).enumerate() {
            if number > 0 {
                body.push(b',');
            }
            body.extend_from_slice(self.body.get(place.row.clone()).unwrap_or_default());
            if let Some(counters) = counters {
                add_counters(&mut body, counters.get(&place.object.key()).copied().unwrap_or_default());
            }
        }
        body.extend_from_slice(foot(self.places.len()).as_bytes());
        body
    }
}

fn foot(total: usize) -> String {
    format!(r#"],"total":{total}}}"#)
}

/// The newest serialised list of a collection. A request for an unchanged collection costs a comparison of
/// pointers; after a change only changed objects are serialised.
pub struct Lists<R: Resource> {
    newest: Mutex<Option<Arc<Serialised<R>>>>,
}

impl<R: Resource> Default for Lists<R> {
    fn default() -> Self {
        Self { newest: Mutex::new(None) }
    }
}

/// Rows from which on a list is put together beside the request threads.
const MANY: usize = 500;

impl<R: Resource> Lists<R> {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    async fn of(self: &Arc<Self>, snapshot: Arc<Snapshot>, context: R::Context) -> Arc<Serialised<R>> {
        let old = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(list) = old.as_ref().filter(|list| list.is_for(&snapshot, &context)) {
            return list.clone();
        }
        let many = R::collection(&snapshot.config).len() > MANY;
        let lists = self.clone();
        let build = move || {
            let list = Arc::new(Serialised::build(&snapshot, context, old.as_deref()));
            *lists.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(list.clone());
            // The old body is freed here, not in a request.
            drop(old);
            list
        };
        if many { blocking::unblock(build).await } else { build() }
    }
}

/// A view with what every object of a collection shows beside its own fields.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InEffect<T> {
    #[serde(flatten)]
    pub object: T,
    /// The applied configuration holds the object exactly as shown.
    pub in_effect: bool,
}

/// One `config_changed` entry that names user, kind and object.
pub fn config_changed(author: &Author, what: impl std::fmt::Display) -> NewAudit {
    NewAudit {
        action: "config_changed",
        source: "engine",
        details: format!("{what} (user {})", author.name),
        ..NewAudit::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::schedules::Schedules;
    use crate::config::{Id, Schedule, Timestamp};

    fn schedule(name: &str) -> Schedule {
        Schedule {
            id: Id::new_v4(),
            name: name.into(),
            description: None,
            time_ranges: vec!["08:00-12:00".into()],
            days_of_week: vec!["Mon".into()],
            enabled: true,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_list_is_serialised_once_until_it_changes() {
        smol::block_on(async {
            let lists = Lists::<Schedules>::new();
            let mut snapshot = Snapshot::default();
            snapshot.config.schedules.insert(schedule("one"));
            let first = lists.of(Arc::new(snapshot.clone()), ()).await;
            // Another revision in which the collection is the same.
            snapshot.revision += 1;
            let again = lists.of(Arc::new(snapshot.clone()), ()).await;
            assert!(Arc::ptr_eq(&first, &again));
            snapshot.config.schedules.insert(schedule("two"));
            let changed = lists.of(Arc::new(snapshot), ()).await;
            assert!(!Arc::ptr_eq(&first, &changed));
            assert_eq!(changed.places.len(), 2);
            let body: serde_json::Value = serde_json::from_slice(&changed.body).unwrap();
            assert_eq!(body["total"], 2);
        });
    }
}
