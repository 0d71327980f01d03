//! The HTTP server: `/healthz`, `/readyz`, `/metrics`. It answers from the first moment to the last, and changes nothing.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics;
use crate::node::{Condition, Node};

/// Requests that look at the stores at once; more wait.
const LOOKS_MAX: usize = 4;

#[derive(Clone)]
struct Shared {
    node: Arc<Node>,
    looks: Arc<Semaphore>,
}

/// Answers on `listener` until `shutdown` ends and the open requests are answered.
pub async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(node))
        .with_graceful_shutdown(shutdown)
        .await
}

fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(Shared {
            node,
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
        })
}

/// The process lives and its runtime runs. Nothing more: a full disk is no reason to kill it.
async fn healthz() -> &'static str {
    "ok\n"
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    conditions: Vec<Condition>,
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let look = shared.look(|node| {
        let (conditions, _) = node.conditions();
        let readiness = Readiness {
            ready: conditions.iter().all(|condition| condition.holds),
            conditions,
        };
        let code = if readiness.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        serde_json::to_string(&readiness).map(|text| (code, text + "\n"))
    });
    match look.await {
        Some(Ok((code, text))) => (code, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Some(Err(_)) | None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics_page(State(shared): State<Shared>) -> Response {
    match shared.look(metrics::render).await {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Some(Err(_)) | None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Shared {
    /// Runs what may read from disk where it may block; `None` if it broke off.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Arc<Node>) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.looks).acquire_owned().await.ok()?;
        let node = Arc::clone(&self.node);
        let done = tokio::task::spawn_blocking(move || {
            let found = look(&node);
            drop(turn);
            found
        });
        done.await
            .inspect_err(|failed| tracing::error!(error = %failed, "a look at the stores broke off"))
            .ok()
    }
}
