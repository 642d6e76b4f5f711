//! The client that the program uses, with its features.

use std::io;

use futures_util::StreamExt as _;

use super::bodies::Calls;
use crate::project::TOKEN;

pub async fn send(calls: Calls, base: &str, lanes: usize) -> io::Result<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(io::Error::other)?;
    let replies = futures_util::stream::iter(calls).map(|call| async {
        let call = call?;
        let request = client
            .request(call.method, format!("{base}{}", call.path))
            .bearer_auth(TOKEN)
            .header("accept", "application/json")
            .header("content-type", call.content)
            .body(call.body);
        let response = request.send().await.map_err(io::Error::other)?;
        let status = response.status();
        let body = response.bytes().await.map_err(io::Error::other)?;
        if status.is_success() && !body.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other(status.to_string()))
        }
    });
    let mut replies = std::pin::pin!(replies.buffer_unordered(lanes));
    while let Some(reply) = replies.next().await {
        reply?;
    }
    Ok(())
}
