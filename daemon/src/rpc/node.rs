//! The service `Node`.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use cairn_api::convert::timestamp_message;
use cairn_api::proto::node_server::Node;
use cairn_api::proto::{Listener, StatusRequest, StatusResponse};
use tonic::{Request, Response, Status};

use super::{Service, errors, messages};

#[tonic::async_trait]
impl Node for Service {
    /// Answers in every phase: what is wrong is what one asks for.
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let node = Arc::clone(&self.node);
        let found = tokio::task::spawn_blocking(move || node.conditions()).await;
        let (conditions, usage) = found.map_err(|failed| errors::broken_task(&failed))?;
        let endpoints = &self.node.endpoints;
        let listener = |service: &str, address: String| Listener {
            service: service.to_owned(),
            address,
        };
        Ok(Response::new(StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process_id: endpoints.process_id,
            started: Some(timestamp_message(self.node.started)),
            uptime_seconds: self.node.uptime().as_secs(),
            data_directory: self.node.config.data_dir.as_os_str().as_bytes().to_vec(),
            listeners: [
                Some(listener("nfs", endpoints.nfs.to_string())),
                Some(listener("http", endpoints.http.to_string())),
                Some(listener("rpc", endpoints.rpc.display().to_string())),
                endpoints
                    .rpc_tcp
                    .map(|address| listener("rpc_tcp", address.to_string())),
            ]
            .into_iter()
            .flatten()
            .collect(),
            usage: usage.as_ref().map(messages::usage),
            conditions: conditions.into_iter().map(messages::condition).collect(),
        }))
    }
}
