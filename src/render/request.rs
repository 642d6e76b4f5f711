//! A whole endpoint, compiled once, and the request of one record.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;

use super::body::{Body, BodyTemplate, Fields, check_size, encode};
use super::context::{Context, Known, Root, Scope};
use super::convert::weight;
use super::envelope::Envelope;
use super::error::RenderError;
use super::headers::{HeadersTemplate, header_value};
use super::params::ParamsTemplate;
use super::url::{Base, PathTemplate, QueryTemplate};
use crate::config::{Auth, Connection, Content, Endpoint, SignedPart, Template, Tree};
use crate::model::{Diagnostic, Place, Placed, Problems, Request, Str, Value};

/// An endpoint, compiled once for a pipeline.
#[derive(Debug)]
pub struct RequestTemplate {
    method: Method,
    base: Base,
    params: ParamsTemplate,
    path: PathTemplate,
    query: QueryTemplate,
    headers: HeadersTemplate,
    body: BodyTemplate,
    fields: Fields,
    needs_fields: bool,
    /// Where a call has several records: the body around what each contributes.
    envelope: Option<Envelope>,
}

impl RequestTemplate {
    /// Compiles an endpoint. `scope` says what is known of `record`, `vars` and the like; params,
    /// `connection` and `body_fields` are added here. All mistakes are added to `problems`.
    pub fn compile(
        endpoint: &Endpoint,
        connection: &Connection,
        exclude: &[Placed<String>],
        scope: &Scope,
        problems: &mut Problems,
    ) -> Option<Self> {
        // Bindings are the pipeline's: they see neither params nor the body.
        let params = ParamsTemplate::compile(&endpoint.params, scope, problems);
        check_multipart(endpoint, connection, problems);
        let batch = endpoint.batch.as_ref();
        let envelope = batch.map(|batch| Envelope::compile(endpoint, batch, connection, scope, problems));
        let scope = Self::scope(endpoint, connection, scope);
        let base = Base::compile(connection, problems);
        let path =
            base.as_ref().and_then(|base| PathTemplate::compile(&endpoint.path, base, &scope, problems));
        let query = QueryTemplate::compile(&endpoint.query, &scope, problems);
        let headers = HeadersTemplate::compile(endpoint, connection, &scope, problems);
        let body = match &endpoint.batch {
            Some(batch) => BodyTemplate::compile_item(endpoint, batch, &scope, problems),
            None => BodyTemplate::compile(endpoint, &scope, problems),
        };
        let by_default =
            endpoint.params.iter().filter(|param| param.binding.is_none()).map(|param| &param.name.value);
        let without = exclude.iter().map(|name| &name.value).chain(by_default);
        let fields = Fields::without(without.map(|name| Str::from(name.as_str())));
        let (params, base, path) = (params?, base?, path?);
        let (query, headers, body) = (query?, headers?, body?);
        let envelope = match envelope {
            Some(envelope) => Some(envelope?),
            None => None,
        };
        let needs_fields = body.reads_fields();
        Some(Self {
            method: endpoint.method.value.clone(),
            base,
            params,
            path,
            query,
            headers,
            body,
            fields,
            needs_fields,
            envelope,
        })
    }

    /// What the expressions of an endpoint can use: the given names, its params, the connection's
    /// settings and `body_fields`. For its captures and rules, add `response` and the like.
    #[must_use]
    pub fn scope(endpoint: &Endpoint, connection: &Connection, scope: &Scope) -> Scope {
        let mut scope = scope.clone();
        if scope.get(Root::Connection).is_none() {
            scope = scope.allow(Root::Connection, Self::settings(connection));
        }
        scope.allow(Root::Params, ParamsTemplate::known(&endpoint.params)).allow(Root::BodyFields, Known::Any)
    }

    pub(super) fn settings(connection: &Connection) -> Known {
        Known::Fields(connection.settings.names().map(str::to_owned).collect())
    }

    /// The call of several records: method, URL and headers are those of the first, as they are the same
    /// for all; `items` is what each contributes. `context` has everything but a record.
    ///
    /// # Errors
    /// That the body around the items cannot be rendered, or is none that its kind can hold.
    pub fn together(
        &self,
        first: &Draft,
        items: &[&Value],
        group: Value,
        context: &mut Context,
    ) -> Result<Draft, RenderError> {
        let Some(envelope) = &self.envelope else { return Ok(first.clone()) };
        let mut draft = Draft {
            body: envelope.render(items, group, context)?,
            content: envelope.content(),
            place: envelope.place().clone(),
            ..first.clone()
        };
        if !draft.headers.contains_key(header::CONTENT_TYPE)
            && let Some(content_type) = super::body::content_type(draft.content)
        {
            draft.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Ok(draft)
    }

    /// Renders one record: its params, URL, headers and body. Sets `params` (and `body_fields`,
    /// when it is read) in the context, and counts calls of `uuid()` anew.
    pub fn render(&self, context: &mut Context) -> Result<Draft, RenderError> {
        context.restart();
        let params = self.params.value(context)?;
        context.set(Root::Params, Arc::new(params));
        if self.needs_fields {
            let fields = Value::Object(self.fields.of(context));
            context.set(Root::BodyFields, Arc::new(fields));
        }
        let url = super::url::write(&self.base, &self.path, &self.query, context)?;
        let (mut headers, key) = self.headers.render(context)?;
        let body = self.body.render(context, &self.fields)?;
        if body != Body::None
            && self.envelope.is_none()
            && !headers.contains_key(header::CONTENT_TYPE)
            && let Some(content_type) = self.body.content_type()
        {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Ok(Draft {
            method: self.method.clone(),
            url,
            headers,
            key_header: self.headers.key_name().cloned(),
            key,
            body,
            content: self.body.content(),
            place: self.body.place().clone(),
        })
    }
}

/// What cannot go together with a body of parts.
fn check_multipart(endpoint: &Endpoint, connection: &Connection, problems: &mut Problems) {
    if endpoint.content != Content::Multipart {
        return;
    }
    let is_type = |name: &str| name.eq_ignore_ascii_case("content-type");
    if let Some((name, _)) = endpoint.headers.iter().find(|(name, _)| is_type(&name.value)) {
        problems.push(
            Diagnostic::error(
                "multipart-type",
                "the content type of a multipart body is made with its boundary",
            )
            .place(&name.place)
            .help("leave the header out"),
        );
    }
    let signs_body = match &connection.auth {
        Auth::AwsSigV4(_) => true,
        Auth::Hmac(hmac) => {
            hmac.sign.iter().any(|part| matches!(part, SignedPart::Body | SignedPart::BodySha256))
        }
        _ => false,
    };
    if signs_body {
        problems.push(
            Diagnostic::error(
                "multipart-signed",
                "the credentials sign the body, and the files of a multipart body are read while it is sent",
            )
            .place(&endpoint.place)
            .help("sign without the body (`auth: { hmac: { sign: … } }`), or use another `content`"),
        );
    }
}

/// A call without body, such as a look at what became of a request in doubt, or the connector's
/// check.
#[derive(Debug)]
pub struct CallTemplate {
    method: Method,
    base: Base,
    path: PathTemplate,
    query: QueryTemplate,
    headers: HeadersTemplate,
}

impl CallTemplate {
    /// Compiles a call; `scope` is all that its expressions can use.
    pub fn compile(
        method: &Method,
        path: &Template,
        query: &[(Placed<String>, Tree)],
        connection: &Connection,
        scope: &Scope,
        problems: &mut Problems,
    ) -> Option<Self> {
        let base = Base::compile(connection, problems);
        let path = base.as_ref().and_then(|base| PathTemplate::compile(path, base, scope, problems));
        let query = QueryTemplate::compile(query, scope, problems);
        let headers = HeadersTemplate::of_connection(connection, scope, problems);
        Some(Self { method: method.clone(), base: base?, path: path?, query: query?, headers: headers? })
    }

    /// Every path that its URL reads, such as `request.body.id`.
    pub fn reads(&self) -> impl Iterator<Item = String> {
        self.path.reads().chain(self.query.reads())
    }

    /// Renders the call.
    pub fn render(&self, context: &Context) -> Result<Request, RenderError> {
        let url = super::url::write(&self.base, &self.path, &self.query, context)?;
        let (headers, _) = self.headers.render(context)?;
        Ok(Request { method: self.method.clone(), url, headers, body: Bytes::new(), form: None })
    }
}

/// A rendered request whose body is still data, to be checked against its schema.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// Headers, without the idempotency key.
    pub headers: HeaderMap,
    key_header: Option<HeaderName>,
    key: Option<HeaderValue>,
    body: Body,
    content: Content,
    place: Place,
}

impl Draft {
    /// The body as data, when it is data: to check against `body_schema`.
    #[must_use]
    pub const fn body(&self) -> Option<&Value> {
        match &self.body {
            Body::None | Body::Written(_) | Body::Text(_, None) => None,
            Body::Data(value) | Body::Text(_, Some(value)) | Body::Parts(_, value) => Some(value),
        }
    }

    /// The request without a body, where none can be made.
    #[must_use]
    pub fn without_body(self) -> Request {
        Request { method: self.method, url: self.url, headers: self.headers, body: Bytes::new(), form: None }
    }

    /// A hash of what has to be the same for all records of one call: method, URL and headers.
    #[must_use]
    pub fn head_digest(&self) -> u64 {
        Request::digest_of_head(&self.method, &self.url, &self.headers)
    }

    /// Takes out what the record contributes to a call with several, and tells about how many bytes that has.
    ///
    /// # Errors
    /// That it contributes nothing.
    pub fn take_item(&mut self) -> Result<(Value, usize), RenderError> {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::Data(value) => {
                let bytes = weight(&value, usize::MAX);
                Ok((value, bytes))
            }
            Body::None | Body::Written(_) | Body::Text(..) | Body::Parts(..) => {
                Err(RenderError::new("body-value", &self.place, "the record contributes nothing to its call"))
            }
        }
    }

    /// The idempotency key, when the endpoint itself says it.
    #[must_use]
    pub fn own_key(&self) -> Option<&str> {
        self.key.as_ref().and_then(|key| key.to_str().ok())
    }

    /// Where the body was written, for messages about it.
    #[must_use]
    pub const fn body_place(&self) -> &Place {
        &self.place
    }

    /// Writes the body and puts the idempotency key into the endpoint's header; a key that the
    /// endpoint says itself wins, and without such a header `key` is not used. Where parts of the body are
    /// files, they are only named: whoever sends it has to look at them and seal it.
    pub fn finish(mut self, key: Option<&str>, max_body: usize) -> Result<Request, RenderError> {
        if let Some(name) = self.key_header {
            let key = match (self.key, key) {
                (Some(own), _) => Some(own),
                (None, Some(key)) => Some(header_value(&name, key, &self.place)?),
                (None, None) => None,
            };
            if let Some(key) = key {
                self.headers.insert(name, key);
            }
        }
        let (body, form) = match self.body {
            Body::Parts(form, _) => {
                check_size(form.held(), max_body, &self.place)?;
                (Vec::new(), Some(Box::new(form)))
            }
            Body::Written(bytes) => {
                check_size(bytes.len(), max_body, &self.place)?;
                (bytes, None)
            }
            body => (encode(&body, self.content, &self.place, max_body)?, None),
        };
        let body = Bytes::from(body);
        let mut request = Request { method: self.method, url: self.url, headers: self.headers, body, form };
        if !request.form.as_ref().is_some_and(|form| form.has_files()) {
            request.seal();
        }
        Ok(request)
    }
}
