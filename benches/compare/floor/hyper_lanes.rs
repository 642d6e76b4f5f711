//! What lies below that client: a connection for each lane, one request after the other on it.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::bodies::Calls;
use crate::project::TOKEN;

pub async fn send(calls: Calls, base: &str, lanes: usize) -> io::Result<()> {
    let address = base.trim_start_matches("http://");
    let calls = RefCell::new(calls);
    let lanes = (0..lanes).map(|_| lane(&calls, address));
    futures_util::future::try_join_all(lanes).await.map(drop)
}

/// Sends the next call as long as there is one.
async fn lane(calls: &RefCell<Calls>, address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // What ends a connection is told by the request that was on it.
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    loop {
        // Not in the condition of a loop: it would be borrowed while the reply is waited for.
        let call = calls.borrow_mut().next().transpose()?;
        let Some(call) = call else { return Ok(()) };
        let request = http::Request::builder()
            .method(call.method)
            .uri(call.path)
            .header("host", address)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("accept", "application/json")
            .header("content-type", call.content)
            .body(Full::new(Bytes::from(call.body)))
            .map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        if !status.is_success() || body.is_empty() {
            return Err(io::Error::other(status.to_string()));
        }
    }
}
