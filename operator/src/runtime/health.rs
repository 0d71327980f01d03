//! The HTTP servers: `/livez` and `/readyz` on one port, `/metrics` on another.
//!
//! Live: the event loop turns and somebody answers. Ready: every cache has been listed once and the lease has been read, so that this process could
//! lead, or does. Whoever stands by is ready, too: it serves nobody but takes over. The page says what is missing.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::{CONTENT_TYPE, Metrics};

/// Something that must hold for the process to be ready: its name, and why it does not hold.
pub type Check = Box<dyn Fn() -> (String, Result<(), String>) + Send + Sync>;

/// Answers `/livez` and `/readyz` on `listener` until `shutdown` ends.
pub async fn serve(
    listener: TcpListener,
    checks: Vec<Check>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::new(checks));
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

/// Answers `/metrics` on `listener` until `shutdown` ends.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new().route("/metrics", get(page)).with_state(metrics);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn ready(State(checks): State<Arc<Vec<Check>>>) -> Response {
    let mut is_ready = true;
    let mut text = String::new();
    for check in checks.iter() {
        let (name, result) = check();
        match result {
            Ok(()) => text.push_str(&format!("[+] {name}\n")),
            Err(why) => {
                is_ready = false;
                text.push_str(&format!("[-] {name}: {why}\n"));
            }
        }
    }
    match is_ready {
        true => (StatusCode::OK, text).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
    }
}

async fn page(State(metrics): State<Metrics>) -> Response {
    match metrics.page() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
