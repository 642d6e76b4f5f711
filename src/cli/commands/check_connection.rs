//! `runner check-connection`: one harmless call that needs the credentials, with what came back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Ended, Refused};
use crate::cli::args::CheckConnection;
use crate::cli::invocation::Invocation;
use crate::cli::table::{self, Table};
use crate::config::{Connection, Delivery};
use crate::deliver::Sender;
use crate::model::{Class, Diagnostic, Failure, Lost, Problems, Reply, Request};
use crate::render::{CallTemplate, Context, Known, Root, RunValues, Scope};
use crate::report::{Reporter, text};

/// What became of one connection's call.
struct Checked {
    name: String,
    host: String,
    /// `GET /accounts/configuration`; empty when nothing was asked.
    call: String,
    status: Option<u16>,
    took: Option<Duration>,
    class: Class,
    /// `ok`, or why not, in a few words.
    verdict: String,
}

/// `runner check-connection`
pub fn check_connection(
    invocation: &Invocation<'_>,
    args: &CheckConnection,
    mut reporter: Reporter,
) -> Result<Ended, Refused> {
    let project = match invocation.project() {
        Ok(project) => project,
        Err(failure) => return Err(Refused::new(failure, reporter)),
    };
    let names = args.name.clone().map_or_else(|| project.connections.clone(), |name| vec![name]);
    if names.is_empty() {
        let found = Diagnostic::error("no-connection", "runner.yaml has no connection")
            .help("add one under `connections:`");
        return Err(Refused::new(Failure::new(Class::Config, found), reporter));
    }
    let mut all = Vec::new();
    for name in &names {
        let connection = match invocation.connection(&project, name) {
            Ok((connection, warnings)) => {
                reporter.hide(invocation.mask());
                for warning in &warnings {
                    reporter.diagnostic(warning);
                }
                connection
            }
            // The only one asked for: its mistakes are the answer.
            Err(failure) if names.len() == 1 => return Err(Refused::new(failure, reporter)),
            Err(failure) => {
                all.push(refused(name, &failure, &mut reporter));
                continue;
            }
        };
        match check(&connection) {
            Ok((checked, finding)) => {
                if let Some(finding) = finding {
                    reporter.diagnostic(&finding);
                }
                all.push(checked);
            }
            Err(failure) if names.len() == 1 => return Err(Refused::new(failure, reporter)),
            Err(failure) => all.push(refused(name, &failure, &mut reporter)),
        }
    }
    let class = all.iter().fold(Class::Ok, |worst, checked| worst.worst(checked.class));
    let summary = json!({ "connections": all.iter().map(Checked::to_json).collect::<Vec<_>>() });
    Ok(Ended::of(reporter.answer(class, class.code(), &drawn(&all), summary)))
}

fn refused(name: &str, failure: &Failure, reporter: &mut Reporter) -> Checked {
    for diagnostic in &failure.diagnostics {
        reporter.diagnostic(diagnostic);
    }
    let verdict = failure.diagnostics.first().map_or("cannot be used", |found| found.rule);
    Checked {
        name: name.to_owned(),
        host: String::new(),
        call: String::new(),
        status: None,
        took: None,
        class: failure.class,
        verdict: verdict.to_owned(),
    }
}

fn drawn(all: &[Checked]) -> String {
    let mut table = Table::new(["connection", "status", "time", "host", "result"]);
    for checked in all {
        let status = checked.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let took = checked.took.map_or_else(|| "-".to_owned(), text::duration);
        let host = if checked.host.is_empty() { "-" } else { &checked.host };
        table.row([&checked.name, &status, &took, host, &checked.verdict]);
    }
    table.draw(table::width())
}

impl Checked {
    fn to_json(&self) -> Value {
        json!({
            "connection": self.name,
            "host": self.host,
            "call": self.call,
            "status": self.status,
            "seconds": self.took.map(|took| took.as_secs_f64()),
            "class": self.class.name(),
            "result": self.verdict,
        })
    }
}

/// Asks, and says what is wrong, if anything is.
fn check(connection: &Connection) -> Result<(Checked, Option<Diagnostic>), Failure> {
    if let Some(failure) = connection.unset_failure() {
        return Err(failure);
    }
    let host = host_of(&connection.base_url);
    let mut checked = Checked {
        name: connection.name.clone(),
        host,
        call: String::new(),
        status: None,
        took: None,
        class: Class::Ok,
        verdict: "not asked: no `check` call".to_owned(),
    };
    let Some(request) = request(connection)? else { return Ok((checked, None)) };
    checked.call = format!("{} {}", request.method, request.url.path());
    let sender = Sender::new(connection, &Delivery::of(connection))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start the runtime: {error}")))
    })?;
    let begun = Instant::now();
    let reply = runtime.block_on(sender.send(&request));
    checked.took = Some(begun.elapsed());
    let finding = checked.read(&reply, connection);
    Ok((checked, finding))
}

/// The connector's `check` call, if it has one.
fn request(connection: &Connection) -> Result<Option<Request>, Failure> {
    let Some(check) = &connection.check else { return Ok(None) };
    let nobody = RunValues { started_at: jiff::Timestamp::now(), ..RunValues::of_nobody() };
    let names: Vec<String> = connection.settings.names().map(str::to_owned).collect();
    let scope = Scope::new().allow(Root::Connection, Known::Fields(names.into()));
    let mut problems = Problems::new();
    let call = CallTemplate::compile(&check.method, &check.path, &[], connection, &scope, &mut problems);
    let Some(call) = call.filter(|_| !problems.has_errors()) else { return Err(Failure::config(problems)) };
    let settings = Arc::new(crate::model::Value::Object(connection.settings.clone()));
    let context = Context::new(nobody).with(Root::Connection, settings);
    call.render(&context).map(Some).map_err(|error| Failure::new(Class::Config, Diagnostic::from(error)))
}

impl Checked {
    /// Takes over the reply; gives a finding when it was not a good one.
    fn read(&mut self, reply: &Reply, connection: &Connection) -> Option<Diagnostic> {
        let again = format!("then `runner check-connection {}`", self.name);
        let again = if self.name == "in place" { "then try again".to_owned() } else { again };
        let (class, found) = match reply {
            Reply::Lost(lost) => {
                lost.class.clone_into(&mut self.verdict);
                let is_of_token = matches!(lost.class, Lost::TOKEN_REFUSED | Lost::TOKEN_UNAVAILABLE);
                let message = if is_of_token {
                    lost.message.clone()
                } else {
                    format!("no reply from {}: {}", self.host, lost.message)
                };
                let (class, help) = match lost.class {
                    "certificate" => (
                        Class::Halted,
                        "look at the address; a certificate of your own authority is named with `tls: { ca: FILE }`",
                    ),
                    Lost::TOKEN_REFUSED => {
                        (Class::Halted, "correct the client's id and secret, or `token_url` of `oauth2`")
                    }
                    Lost::TOKEN_UNAVAILABLE => {
                        (Class::Stopped, "look at `token_url` of `oauth2`, or wait until it is back")
                    }
                    "client-certificate" => {
                        (Class::Halted, "look at `tls: { cert: FILE, key: FILE }` of the connection")
                    }
                    "address-refused" => {
                        (Class::Halted, "look at the address: link-local ones are never asked")
                    }
                    "dns" => (Class::Stopped, "look at the host's name in the base URL, and at the network"),
                    _ => (Class::Stopped, "look at the address and at the network, or wait until it is back"),
                };
                (class, Diagnostic::error("no-reply", message).help(format!("{help}; {again}")))
            }
            Reply::Arrived(arrived) => {
                let status = arrived.status.as_u16();
                self.status = Some(status);
                arrived.status.canonical_reason().unwrap_or("?").to_lowercase().clone_into(&mut self.verdict);
                if arrived.status.is_success() {
                    "ok".clone_into(&mut self.verdict);
                    return None;
                }
                let answered = format!("{} answered {status}", self.host);
                match status {
                    401 | 403 => (Class::Halted, refused_credentials(&answered, connection, &again)),
                    408 | 429 | 500.. => (
                        Class::Stopped,
                        Diagnostic::error("not-now", answered).help(format!("wait a little, {again}")),
                    ),
                    300..=399 => (
                        Class::Halted,
                        Diagnostic::error("redirected", format!("{answered}; redirects are not followed"))
                            .help("set the base URL to where it leads"),
                    ),
                    _ => (
                        Class::Halted,
                        Diagnostic::error("check-refused", answered)
                            .help("look at the base URL, and at `check:` of the connector"),
                    ),
                }
            }
        };
        self.class = class;
        Some(found.at(format!("{} for connection `{}`", self.call, self.name)))
    }
}

fn refused_credentials(answered: &str, connection: &Connection, again: &str) -> Diagnostic {
    let found = Diagnostic::error("credentials-refused", answered);
    match connection.secrets_from.as_slice() {
        [] => found.help("the connection sends no credentials that come from a variable or file"),
        from => {
            let from = from.join(" and ");
            found
                .note(format!("the credentials came from {from}"))
                .help(format!("correct the value of {from}, {again}"))
        }
    }
}

/// Host and port of a base URL.
fn host_of(base_url: &str) -> String {
    base_url.split("://").nth(1).unwrap_or(base_url).split('/').next().unwrap_or_default().to_owned()
}
