//! The route table: one value per operation. From it come routing, permission checks, 404/405, body limits,
//! `openapi.json`, and the matrix that the tests walk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{ApiError, Call, Reply};
use crate::config::Permission;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Public,
    /// Any credential; the handler decides the rest (self-service).
    Authenticated,
    /// As `Authenticated`, also with a token that is good for TOTP enrolment only.
    Enrolment,
    Needs(Permission),
    /// Root on the machine itself, over the local socket; no credential does.
    Local,
}

type Answer = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;
pub type Handler = Arc<dyn Fn(Call) -> Answer + Send + Sync>;
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation.
#[derive(Clone)]
pub struct Route {
    pub method: &'static str,
    /// Below `/api/v1`, parameters in braces: `/rules/{id}`.
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    /// Largest body in bytes; more is 413.
    pub body_limit: usize,
    /// The body is handed on as it comes, as [`Call::upload`], instead of being read before.
    pub streams: bool,
    /// `?ticket=` counts as a credential here (streams).
    pub takes_ticket: bool,
    /// A success is followed by an automatic snapshot (contract/config.md §4).
    pub snapshot: bool,
    pub request: Option<SchemaOf>,
    /// Status and schema of the success.
    pub success: (u16, Option<SchemaOf>),
    /// Query parameters: name, what it is.
    pub query: &'static [(&'static str, &'static str)],
    pub handler: Handler,
}

pub const DEFAULT_BODY_LIMIT: usize = 10 * 1024 * 1024;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Route {
    pub fn new<F, R>(
        method: &'static str,
        path: &'static str,
        access: Access,
        summary: &'static str,
        f: F,
    ) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, ApiError>> + Send + 'static,
    {
        Self {
            method,
            path,
            access,
            summary,
            body_limit: DEFAULT_BODY_LIMIT,
            streams: false,
            takes_ticket: false,
            snapshot: method != "GET",
            request: None,
            success: (200, None),
            query: &[],
            handler: Arc::new(move |call| Box::pin(f(call))),
        }
    }
    /// Body's schema.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.request = Some(schema_of::<T>);
        self
    }
    /// Status and schema of the success.
    pub fn answers<T: JsonSchema>(mut self, status: u16) -> Self {
        self.success = (status, Some(schema_of::<T>));
        self
    }
    pub fn with_query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }
    /// The handler reads the body itself, up to so many bytes.
    pub fn with_upload(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self.streams = true;
        self
    }
    pub fn with_ticket(mut self) -> Self {
        self.takes_ticket = true;
        self
    }
    /// No automatic snapshot after a success.
    pub fn without_snapshot(mut self) -> Self {
        self.snapshot = false;
        self
    }
}
