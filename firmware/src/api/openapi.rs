//! `openapi.json` (OpenAPI 3.1): made from the route table, so that it cannot say anything that is not served. A
//! copy is checked in as `firmware/openapi.json`; a test compares the two.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::reply::JSON;
use super::route::SchemaOf;
use super::{Access, ApiError, Call, Reply, Route};

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/openapi.json", Access::Public, "This document", serve)
            .answers::<Map<String, Value>>(200),
    ]
}

/// GET /openapi.json. Made when it is first asked for.
async fn serve(_: Call) -> Result<Reply, ApiError> {
    static DOCUMENT: OnceLock<Arc<[u8]>> = OnceLock::new();
    let bytes =
        DOCUMENT.get_or_init(|| serde_json::to_vec(&document(&super::routes())).unwrap_or_default().into());
    Ok(Reply::shared(JSON, bytes.clone()))
}

/// The document for a route table.
pub fn document(table: &[Route]) -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.transforms.push(Box::new(RecursiveTransform(without_made_up_ids)));
        })
    };
    let mut requests = settings().for_deserialize().into_generator();
    let mut answers = settings().for_serialize().into_generator();
    let mut operations: Vec<(&Route, Option<Value>, Option<Value>)> = Vec::new();
    // What the local socket alone serves is no part of the API that others program against.
    for route in table.iter().filter(|route| route.access != Access::Local) {
        let schema =
            |generator: &mut SchemaGenerator, of: Option<SchemaOf>| of.map(|of| of(generator).to_value());
        let request = schema(&mut requests, route.request);
        let answer = schema(&mut answers, route.success.1);
        operations.push((route, request, answer));
    }
    let mut schemas = answers.take_definitions(true);
    let request_schemas = requests.take_definitions(true);
    let renamed = differing(&request_schemas, &schemas);
    for (name, mut schema) in request_schemas {
        rename(&mut schema, &renamed);
        schemas.insert(if renamed.contains(&name) { input(&name) } else { name }, schema);
    }
    schemas.insert("Error".into(), error_schema());
    let mut paths = Map::new();
    for (route, mut request, answer) in operations {
        if let Some(request) = &mut request {
            rename(request, &renamed);
        }
        let item = paths.entry(format!("/api/v1{}", route.path)).or_insert_with(|| json!({}));
        item[route.method.to_ascii_lowercase()] = operation(route, request, answer);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AiFw",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The REST API of the AiFw firewall appliance. Every error is \
                            `{\"error\": text, \"message\": text}`; the status says what kind it is.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "key": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "`ApiKey <key>`",
                },
                "ticket": {
                    "type": "apiKey", "in": "query", "name": "ticket",
                    "description": "From `POST /api/v1/auth/ws-ticket`; good once, for 30 s",
                },
            },
        },
    })
}

/// A default that is drawn anew each time is no default to write down.
fn without_made_up_ids(schema: &mut Schema) {
    if schema.get("format").is_some_and(|format| format == "uuid") {
        schema.remove("default");
    }
}

fn operation(route: &Route, request: Option<Value>, answer: Option<Value>) -> Value {
    let (status, _) = route.success;
    let mut success =
        json!({ "description": if status == 101 { "The connection is a WebSocket now" } else { "Done" } });
    if let Some(schema) = answer {
        success["content"] = json!({ JSON: { "schema": schema } });
    }
    let mut responses = Map::new();
    responses.insert(status.to_string(), success);
    let parameters = parameters(route);
    let has_path_parameter = route.path.contains('{');
    let is_public = route.access == Access::Public;
    let is_write = route.method != "GET";
    let refusals = [
        (400, "BadRequest", is_write || !parameters.is_empty()),
        (401, "Unauthorized", !is_public),
        (403, "Forbidden", !is_public),
        (404, "NotFound", has_path_parameter),
        (409, "Conflict", is_write),
        (413, "TooLarge", request.is_some()),
        (500, "Internal", true),
    ];
    for (status, name, _) in refusals.into_iter().filter(|(_, _, possible)| *possible) {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
    }
    let tag = route.path.trim_start_matches('/').split(['/', '.']).next().unwrap_or_default();
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag],
        "responses": responses,
        "security": security(route),
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = request {
        operation["requestBody"] = json!({ "content": { JSON: { "schema": schema } } });
    }
    match route.access {
        Access::Needs(permission) => operation["x-permission"] = permission.name().into(),
        Access::Enrolment => operation["x-enrolment"] = true.into(),
        Access::Authenticated | Access::Public | Access::Local => {}
    }
    operation
}

/// `GET /rules/{id}` → `get_rules_by_id`.
fn operation_id(route: &Route) -> String {
    let mut id = route.method.to_ascii_lowercase();
    for segment in route.path.split('/').filter(|segment| !segment.is_empty()) {
        id.push('_');
        if let Some(name) = segment.strip_prefix('{') {
            id.push_str("by_");
            id.push_str(name.trim_end_matches('}'));
        } else {
            id.extend(segment.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
        }
    }
    id
}

fn parameters(route: &Route) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route.query.iter().map(|(name, what)| {
        let schema = match *name {
            "limit" | "offset" => json!({ "type": "integer", "minimum": 0 }),
            _ => json!({ "type": "string" }),
        };
        json!({ "name": name, "in": "query", "description": what, "schema": schema })
    });
    in_path.chain(in_query).collect()
}

fn security(route: &Route) -> Value {
    match (route.access, route.takes_ticket) {
        (Access::Public, _) => json!([]),
        (_, false) => json!([{ "token": [] }, { "key": [] }]),
        (_, true) => json!([{ "token": [] }, { "key": [] }, { "ticket": [] }]),
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error", "message"],
        "properties": {
            "error": { "type": "string", "description": "What is wrong, for a person" },
            "message": { "type": "string", "description": "The same text" },
        },
    })
}

fn responses() -> Value {
    let all = [
        ("BadRequest", "The request is at fault; the text names the field and what was expected"),
        ("Unauthorized", "No credential, or one that is not valid"),
        ("Forbidden", "The credential lacks the permission"),
        ("NotFound", "There is no such object"),
        ("Conflict", "A duplicate, or something else that must stay true would not"),
        ("TooLarge", "The body is too large"),
        ("Internal", "The appliance is at fault; the log has the detail"),
    ];
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    let response = |(name, what): (&str, &str)| {
        let body = json!({ "description": what, "content": { JSON: { "schema": schema.clone() } } });
        (name.to_owned(), body)
    };
    Value::Object(all.into_iter().map(response).collect())
}

/// Schemas that a request shows otherwise than an answer, such as a field that may be left out; and what refers
/// to them.
fn differing(requests: &Map<String, Value>, answers: &Map<String, Value>) -> BTreeSet<String> {
    let differs = |(name, schema): (&String, &Value)| {
        answers.get(name).is_some_and(|answer| answer != schema).then(|| name.clone())
    };
    let mut found: BTreeSet<String> = requests.iter().filter_map(differs).collect();
    loop {
        let refers = |(name, schema): (&String, &Value)| {
            let mut changed = schema.clone();
            rename(&mut changed, &found);
            (changed != *schema && answers.contains_key(name) && !found.contains(name)).then(|| name.clone())
        };
        let more: Vec<String> = requests.iter().filter_map(refers).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn input(name: &str) -> String {
    format!("{name}Input")
}

/// Points references to the request's form of the schemas in `names`.
fn rename(value: &mut Value, names: &BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let name = member.as_str().and_then(|text| text.strip_prefix("#/components/schemas/"));
                match name.filter(|name| key == "$ref" && names.contains(*name)) {
                    Some(name) => *member = format!("#/components/schemas/{}", input(name)).into(),
                    None => rename(member, names),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::config::Permission;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Inner {
        #[serde(default)]
        count: u32,
    }
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        inner: Inner,
    }

    #[test]
    fn an_operation_is_described_from_its_route() {
        let needs = Access::Needs(Permission::RulesWrite);
        let route =
            Route::new("PUT", "/rules/{id}", needs, "Replace a rule", async |_: Call| Ok(Reply::empty(200)))
                .takes::<Outer>()
                .answers::<Outer>(201)
                .with_query(&[("limit", "At most so many")]);
        let document = document(&[route]);
        let operation = &document["paths"]["/api/v1/rules/{id}"]["put"];
        assert_eq!(operation["operationId"], "put_rules_by_id");
        assert_eq!(operation["x-permission"], "rules:write");
        assert_eq!(operation["parameters"][0]["name"], "id");
        assert_eq!(operation["parameters"][1]["schema"]["type"], "integer");
        for status in ["201", "400", "401", "403", "404", "409", "413", "500"] {
            assert!(operation["responses"][status].is_object(), "{status}");
        }
        // A default makes a field optional in requests only, also one level down.
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(body, "#/components/schemas/OuterInput");
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["OuterInput"]["properties"]["inner"]["$ref"], "#/components/schemas/InnerInput");
        assert_eq!(schemas["InnerInput"]["required"], Value::Null);
        assert_eq!(schemas["Inner"]["required"], json!(["count"]));
    }
}
