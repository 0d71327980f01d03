//! What is known of the nodes, and the way to ask them: adds the fence to every request, learns who a node's daemon is before anything is changed
//! there, and never sends to a daemon of another node what was meant for this one (addresses are given again).

use std::collections::HashMap;
use std::sync::Arc;

use cairn_api::proto;
use cairn_types::{Clock, Timestamp};
use parking_lot::RwLock;

use super::call::Call;
use super::error::{CallError, Outcome};
use super::{Address, Daemons};
use crate::runtime::lease::Leadership;

/// What a daemon said of itself last.
#[derive(Debug, Clone)]
pub struct NodeState {
    /// What it said; nothing if it has not been asked, or is another process than the one that was asked.
    pub info: Option<Arc<proto::GetInfoResponse>>,
    /// When it answered last.
    pub seen: Option<Timestamp>,
    /// Why it does not answer now.
    pub failure: Option<CallError>,
}

/// Called with the name of a node that has become reachable, or is not any more.
pub type Listener = Box<dyn Fn(&str) + Send + Sync>;
/// Called with the greatest generation that a daemon has seen, which is greater than ours.
pub type Fenced = Box<dyn Fn(u64) + Send + Sync>;

/// The daemons, as the reconcilers ask them.
pub struct Fleet {
    daemons: Arc<dyn Daemons>,
    leadership: Leadership,
    cluster: String,
    clock: Arc<dyn Clock>,
    states: RwLock<HashMap<String, NodeState>>,
    listener: Listener,
    fenced: Fenced,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Fleet {
    /// `cluster` tells generations of one cluster from those of another; `listener` hears of nodes that come and go.
    pub fn new(
        daemons: Arc<dyn Daemons>,
        leadership: Leadership,
        cluster: impl Into<String>,
        clock: Arc<dyn Clock>,
        listener: Listener,
        fenced: Fenced,
    ) -> Self {
        Fleet {
            daemons,
            leadership,
            cluster: cluster.into(),
            clock,
            states: RwLock::default(),
            listener,
            fenced,
        }
    }

    /// The nodes that have a daemon now.
    pub fn nodes(&self) -> Vec<(String, Address)> {
        self.daemons.nodes()
    }

    /// Says where a daemon answers that is no node's, and which name its certificate has; nothing: it does not answer any more. Its name has a `/`, which
    /// no node's has.
    pub fn locate(&self, daemon: &str, at: Option<(Address, String)>) {
        if at.is_none() {
            self.states.write().remove(daemon);
        }
        self.daemons.locate(daemon, at);
    }

    /// Where the daemon of a node answers.
    pub fn address(&self, node: &str) -> Option<Address> {
        self.daemons.address(node)
    }

    /// What is known of a node.
    pub fn state(&self, node: &str) -> Option<NodeState> {
        self.states.read().get(node).cloned()
    }

    /// What a node's daemon said of itself last, if it answers.
    pub fn info(&self, node: &str) -> Option<Arc<proto::GetInfoResponse>> {
        let states = self.states.read();
        states.get(node).and_then(|state| state.info.clone())
    }

    /// Asks a node's daemon who it is. Errors: it does not answer; it is the daemon of another node.
    pub async fn refresh(&self, node: &str) -> Result<Arc<proto::GetInfoResponse>, CallError> {
        let answer = self.send(node, proto::GetInfoRequest {}, String::new()).await;
        let result = answer.and_then(|info| match info.node == node {
            true => Ok(Arc::new(info)),
            false => Err(CallError::own(
                node,
                "GetInfo",
                Outcome::Away,
                "WRONG_NODE",
                format!(
                    "the daemon at the address of node {node} says that it is that of node {}",
                    info.node
                ),
                "set the daemon's node name to the node's (spec.nodeName of its pod)",
            )),
        });
        self.note(node, &result);
        result
    }

    /// Forgets a node: it has no daemon any more.
    pub fn forget(&self, node: &str) {
        let known = self.states.write().remove(node);
        if known.is_some_and(|state| state.info.is_some()) {
            (self.listener)(node);
        }
    }

    /// Sends a request to the daemon of a node. Learns who that is first, if that is not known; a daemon that has restarted meanwhile is asked once
    /// more. Errors: see [`CallError`].
    pub async fn call<C: Call + Clone + Send + Sync>(
        &self,
        node: &str,
        call: C,
    ) -> Result<C::Answer, CallError> {
        let info = match self.info(node) {
            Some(info) => info,
            None => self.refresh(node).await?,
        };
        let result = self.send(node, call.clone(), info.instance.clone()).await;
        let Err(error) = result else {
            return result;
        };
        match error.outcome {
            Outcome::OtherInstance => {
                let info = self.refresh(node).await?;
                self.send(node, call, info.instance.clone()).await
            }
            Outcome::Away => {
                self.note(node, &Err(error.clone()));
                Err(error)
            }
            Outcome::Fenced => {
                if let Some(greatest) = error.greatest {
                    (self.fenced)(greatest);
                }
                Err(error)
            }
            Outcome::Again | Outcome::Refused => Err(error),
        }
    }

    async fn send<C: Call>(&self, node: &str, call: C, instance: String) -> Result<C::Answer, CallError> {
        let mut request = call.into_request();
        let name = request.name();
        let generation = self.leadership.generation();
        if request.is_change() && generation == 0 {
            return Err(CallError::own(
                node,
                name,
                Outcome::Fenced,
                "NOT_LEADING",
                "this process does not hold the lease",
                "",
            ));
        }
        request.set_fence(proto::Fence {
            cluster: self.cluster.clone(),
            generation,
            instance,
        });
        let response = self.daemons.send(node, request).await?;
        C::answer(response).ok_or_else(|| {
            CallError::own(
                node,
                name,
                Outcome::Refused,
                "INTERNAL",
                "the answer is that to another request",
                "report it",
            )
        })
    }

    fn note(&self, node: &str, result: &Result<Arc<proto::GetInfoResponse>, CallError>) {
        let now = self.clock.now();
        let is_news = {
            let mut states = self.states.write();
            let state = states.entry(node.to_owned()).or_insert(NodeState {
                info: None,
                seen: None,
                failure: None,
            });
            let before = state.info.as_ref().map(|info| info.instance.clone());
            match result {
                Ok(info) => {
                    *state = NodeState {
                        info: Some(Arc::clone(info)),
                        seen: Some(now),
                        failure: None,
                    };
                    before.as_ref() != Some(&info.instance)
                }
                Err(error) => {
                    let was_known = state.failure.is_some();
                    state.info = None;
                    state.failure = Some(error.clone());
                    before.is_some() || !was_known
                }
            }
        };
        if is_news {
            (self.listener)(node);
        }
    }
}
