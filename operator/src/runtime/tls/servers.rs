//! The certificates of the daemons of DittoServers, which run in namespaces of people: one Secret of one name in each, for all of its DittoServers.
//!
//! One name, so that the operator needs no right to any other Secret of these namespaces. The certificate is for every Service of the namespace, and of no
//! other. The Secret is owned by all DittoServers that use it, and goes with the last.

use std::collections::HashMap;

use cairn_types::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;

use super::authority::{Role, State};
use super::secrets::{Leaf, Signing, leaf};
use crate::runtime::api::ApiClient;
use crate::runtime::cache::Key;
use crate::runtime::error::ReconcileError;

/// The Secret.
pub const SERVERS: &str = "cairn-ditto-tls";
/// How long a Secret that was found to be right is believed to be, in seconds.
const BELIEVED_SECONDS: i64 = 300;
/// Most namespaces that are remembered; of more, all are looked at anew.
const NAMESPACES_MAX: usize = 4096;

/// A Secret as it was when it was looked at last.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    owners: Vec<OwnerReference>,
    bundle: String,
    seen: Timestamp,
}

/// Keeps the Secrets.
#[derive(Debug)]
pub struct Servers {
    api: ApiClient,
    signing: Signing,
    known: Mutex<HashMap<String, Known>>,
}

impl Servers {
    /// Nothing has been looked at yet.
    pub fn new(api: ApiClient, signing: Signing) -> Self {
        Servers {
            api,
            signing,
            known: Mutex::default(),
        }
    }

    /// Brings the Secret of a namespace up to date, which `owners` (by uid, in one order) use. Errors: there are no roots yet; the API server refuses or does not answer.
    pub async fn keep(
        &self,
        namespace: &str,
        owners: &[OwnerReference],
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        let state = self.signing.state()?;
        let bundle = state.bundle();
        let is_known = self.known.lock().get(namespace).is_some_and(|known| {
            let age = now.seconds().saturating_sub(known.seen.seconds());
            known.owners == owners && known.bundle == bundle && (0..BELIEVED_SECONDS).contains(&age)
        });
        if is_known {
            return Ok(());
        }
        self.write(&state, namespace, owners, now).await?;
        let known = Known {
            owners: owners.to_vec(),
            bundle,
            seen: now,
        };
        let mut all = self.known.lock();
        if all.len() >= NAMESPACES_MAX {
            all.clear();
        }
        all.insert(namespace.to_owned(), known);
        Ok(())
    }

    async fn write(
        &self,
        state: &State,
        namespace: &str,
        owners: &[OwnerReference],
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        let wanted = Leaf {
            key: Key::new(namespace, SERVERS),
            names: &[format!("*.{namespace}.svc")],
            role: Role::Server,
            owners,
        };
        leaf(&self.api, state, &wanted, now).await.map(drop)
    }
}
