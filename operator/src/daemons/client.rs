//! The real daemons: gRPC over mutual TLS, found by the EndpointSlices of their Service.
//!
//! One dead daemon delays nobody else: every node has its own connection, its own bound of calls, its own breaker, and every call its deadline.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::channel::NodeChannel;
use super::error::{CallError, Outcome};
use super::{Address, Daemons, Request, Response, discovery};
use crate::runtime::cache::Cache;
use crate::runtime::metrics::Metrics;
use crate::runtime::tls::Source;

/// The daemons of a cluster.
#[derive(Debug)]
pub struct GrpcDaemons {
    addresses: RwLock<BTreeMap<String, Address>>,
    /// Daemons that are no node's, with the names of their certificates.
    others: RwLock<HashMap<String, (Address, String)>>,
    channels: Mutex<HashMap<String, Arc<NodeChannel>>>,
    tls: Source,
    server_name: String,
    metrics: Metrics,
}

impl GrpcDaemons {
    /// Nobody is known yet ([`GrpcDaemons::learn`]). `server_name` is the name that every daemon's certificate has.
    pub fn new(tls: Source, server_name: impl Into<String>, metrics: Metrics) -> Self {
        GrpcDaemons {
            addresses: RwLock::default(),
            others: RwLock::default(),
            channels: Mutex::default(),
            tls,
            server_name: server_name.into(),
            metrics,
        }
    }

    /// The daemons are the endpoints of this Service. Answers the nodes whose address or readiness has changed.
    pub fn learn(&self, slices: &Cache<EndpointSlice>, service: &str) -> Vec<String> {
        let mut slices = slices.all();
        slices.retain(|slice| discovery::is_of(slice, service));
        self.set(discovery::addresses(&slices))
    }

    /// These are the daemons now. Answers the nodes whose address or readiness has changed.
    pub fn set(&self, new: BTreeMap<String, Address>) -> Vec<String> {
        let mut old = self.addresses.write();
        let names = old.keys().chain(new.keys());
        let mut changed: Vec<String> = names
            .filter(|node| old.get(*node) != new.get(*node))
            .cloned()
            .collect();
        changed.sort();
        changed.dedup();
        *old = new;
        drop(old);
        let mut channels = self.channels.lock();
        for node in &changed {
            // A new address is a new chance.
            channels.remove(node);
        }
        changed
    }

    fn channel(&self, node: &str) -> Arc<NodeChannel> {
        let mut channels = self.channels.lock();
        Arc::clone(
            channels
                .entry(node.to_owned())
                .or_insert_with(|| Arc::new(NodeChannel::new(node))),
        )
    }

    async fn call(&self, node: &str, request: Request) -> Result<Response, CallError> {
        let (name, deadline) = (request.name(), request.deadline());
        let Some(address) = self.address(node) else {
            return Err(CallError::away(
                node,
                name,
                "no endpoint of the daemons' Service is on it",
            ));
        };
        let other = self.others.read().get(node).map(|(_, name)| name.clone());
        let server_name = other.unwrap_or_else(|| self.server_name.clone());
        let channel = self.channel(node);
        let open = |why: String| CallError::away(node, name, &why).because("BREAKER_OPEN");
        channel.breaker.admit(Instant::now()).map_err(open)?;
        let late = || {
            CallError::own(
                node,
                name,
                Outcome::Again,
                "DEADLINE_EXCEEDED",
                format!(
                    "the daemon of node {node} has not answered within {} s",
                    deadline.as_secs()
                ),
                "",
            )
        };
        let called = async {
            let turn = channel.in_flight.acquire().await;
            let turn = turn.map_err(|_| CallError::away(node, name, "the operator is stopping"))?;
            // Certificates are read from small files, and only their hash decides whether anything is to be done.
            let mut client = channel.client(name, &address, &self.tls, &server_name)?;
            let answer = request.send(&mut client).await;
            drop(turn);
            answer.map_err(|status| CallError::from_status(node, name, &status))
        };
        match tokio::time::timeout(deadline, called).await {
            Ok(Ok(response)) => {
                channel.breaker.answered();
                Ok(response)
            }
            Ok(Err(error)) => {
                match error.outcome {
                    Outcome::Away => {
                        channel.breaker.failed(Instant::now(), &error.message);
                        channel.disconnect();
                    }
                    _ => channel.breaker.answered(),
                }
                Err(error)
            }
            Err(_) => {
                let error = late();
                channel.breaker.failed(Instant::now(), &error.message);
                Err(error)
            }
        }
    }
}

impl Daemons for GrpcDaemons {
    fn nodes(&self) -> Vec<(String, Address)> {
        let addresses = self.addresses.read();
        addresses
            .iter()
            .map(|(node, address)| (node.clone(), address.clone()))
            .collect()
    }

    fn address(&self, node: &str) -> Option<Address> {
        let known = self.addresses.read().get(node).cloned();
        known.or_else(|| self.others.read().get(node).map(|(address, _)| address.clone()))
    }

    fn locate(&self, daemon: &str, at: Option<(Address, String)>) {
        let mut others = self.others.write();
        if others.get(daemon) == at.as_ref() {
            return;
        }
        match at {
            Some(at) => others.insert(daemon.to_owned(), at),
            None => others.remove(daemon),
        };
        drop(others);
        // A new address is a new chance.
        self.channels.lock().remove(daemon);
    }

    fn send<'a>(&'a self, node: &'a str, request: Request) -> BoxFuture<'a, Result<Response, CallError>> {
        Box::pin(async move {
            let (name, started) = (request.name(), Instant::now());
            self.metrics.call_began(node);
            // Also when the caller is dropped.
            let counted = Counted {
                metrics: &self.metrics,
                name,
                node,
                started,
                code: "CANCELLED".to_owned(),
            };
            let result = self.call(node, request).await;
            let mut counted = counted;
            counted.code = match &result {
                Ok(_) => "OK".to_owned(),
                Err(error) => error.reason.clone(),
            };
            result
        })
    }
}

struct Counted<'a> {
    metrics: &'a Metrics,
    name: &'static str,
    node: &'a str,
    started: Instant,
    code: String,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics
            .call_ended(self.name, self.node, &self.code, self.started.elapsed());
    }
}
