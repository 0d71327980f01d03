//! The service `grpc.health.v1.Health`, for every client that has a certificate of the configured authority: whether the daemon
//! is ready, as a whole (the empty name) and for each service that is served over TCP. What is told is looked for when it is
//! asked for, so that it is true at that moment.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::proto::control_server::SERVICE_NAME as CONTROL;
use cairn_api::proto::operations_server::SERVICE_NAME as OPERATIONS;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::REQUEST_BYTES_MAX;
use crate::node::Node;

/// Time between looks for whoever watches.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Looks at the stores at once; more wait.
const LOOKS_MAX: usize = 4;

/// Answers by the node's readiness.
#[derive(Debug, Clone)]
pub(super) struct Readiness {
    node: Arc<Node>,
    looks: Arc<Semaphore>,
}

/// The service of a node.
pub(super) fn server(node: Arc<Node>) -> HealthServer<Readiness> {
    let readiness = Readiness {
        node,
        looks: Arc::new(Semaphore::new(LOOKS_MAX)),
    };
    HealthServer::new(readiness).max_decoding_message_size(REQUEST_BYTES_MAX)
}

fn is_known(service: &str) -> bool {
    ["", CONTROL, OPERATIONS].contains(&service)
}

impl Readiness {
    async fn look(&self) -> ServingStatus {
        let Ok(turn) = Arc::clone(&self.looks).acquire_owned().await else {
            return ServingStatus::Unknown;
        };
        let node = Arc::clone(&self.node);
        let looked = tokio::task::spawn_blocking(move || {
            let (conditions, _) = node.conditions();
            drop(turn);
            conditions.iter().all(|condition| condition.holds)
        });
        match looked.await {
            Ok(true) => ServingStatus::Serving,
            Ok(false) => ServingStatus::NotServing,
            Err(failed) => {
                tracing::error!(error = %failed, "a look at the stores broke off");
                ServingStatus::Unknown
            }
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match is_known(&service) {
            true => Ok(Response::new(response(self.look().await))),
            // The protocol of the health service asks for this code.
            false => Err(Status::not_found(format!(
                "the service {service:?} is not served here"
            ))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.into_inner().service);
        let readiness = self.clone();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut told = None;
            let mut ticks = interval(WATCH_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = sender.closed() => return,
                }
                let now = match known {
                    true => readiness.look().await,
                    false => ServingStatus::ServiceUnknown,
                };
                if told != Some(now) && sender.send(Ok(response(now))).await.is_err() {
                    return;
                }
                told = Some(now);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
