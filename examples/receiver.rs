//! A receiver of alerts in twenty lines: prints what `squall watch` tells.
//!
//! ```sh
//! cargo run --example receiver &
//! printf '[[receiver]]\nname = "mine"\ntype = "webhook"\nurl = "http://127.0.0.1:9900/"\n' > squall.toml
//! cargo run -- --config squall.toml alert test mine
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use axum::{Json, Router, http::HeaderMap, routing::post};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9900".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/", post(hear))).await
}

/// What is answered with 2xx has arrived. All else comes again, under the same id.
async fn hear(headers: HeaderMap, Json(alert): Json<Value>) {
    let id = headers.get("x-squall-delivery").and_then(|id| id.to_str().ok()).unwrap_or("?");
    println!("{id}: {}", alert["title"].as_str().unwrap_or("?"));
    for line in alert["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("    {line}");
    }
}
