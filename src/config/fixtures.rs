//! The least that an endpoint and a connection can be, for tests and fuzzers of other modules.

use std::sync::Arc;

use super::{
    Auth, Connection, Content, Endpoint, ErrorReading, Idempotency, Limits, SandboxSpec, Template, Tls,
};
use crate::model::{Map, Place, Placed, SourceText};

/// A leaf as it would stand in a file of its own.
pub fn template(text: &str) -> Template {
    let source = Arc::new(SourceText { path: "templates/t.yaml".into(), text: text.into() });
    Placed::new(text.into(), Place::new(source, 0..text.len()))
}

/// An endpoint without anything but a path.
pub fn endpoint(path: &str) -> Endpoint {
    Endpoint {
        name: "x/y".into(),
        place: template("endpoint").place,
        title: None,
        summary: None,
        docs: None,
        notes: None,
        method: Placed::new(http::Method::POST, template("POST").place),
        path: template(path),
        params: Vec::new(),
        query: Vec::new(),
        headers: Vec::new(),
        content: Content::Json,
        body: None,
        body_file: None,
        keep_nulls: false,
        body_schema: None,
        idempotency: Idempotency::None,
        reconcile: None,
        outcomes: Vec::new(),
        errors: ErrorReading::default(),
        captures: Vec::new(),
        response_schema: None,
        sample: None,
        sandbox: SandboxSpec::default(),
        batch: None,
        pagination: None,
    }
}

/// A connection without credentials.
pub fn connection(base_url: &str) -> Connection {
    Connection {
        name: "c".into(),
        place: template("c").place,
        connector: None,
        base_url: base_url.into(),
        settings: Map::new(),
        auth: Auth::None,
        headers: Vec::new(),
        unset: Vec::new(),
        secrets: Vec::new(),
        tokens: crate::model::Learned::default(),
        secrets_from: Vec::new(),
        credentials: Vec::new(),
        tls: Tls::default(),
        proxy: None,
        allow_plain_http: false,
        limits: Limits::default(),
        check: None,
        sandbox_error: None,
    }
}
