//! The operator's own authority, kept in three Secrets of its namespace: the roots with their keys, the daemons' certificate, the operator's.
//!
//! The leader brings them up to date ([`Keeper::tick`]); everybody reads the operator's ([`Keeper::read`]). Roots are written before anything that they
//! signed, and only over the version that was read. When a certificate was made stands in an annotation.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::authority::{Role, Root, State};
use super::{Kept, Material, TlsError};
use crate::runtime::api::{ApiClient, metadata};
use crate::runtime::cache::Key;
use crate::runtime::error::ReconcileError;

/// The Secret of the roots.
pub const AUTHORITY: &str = "cairn-authority";
/// The Secret of the daemons' certificate.
pub const DAEMONS: &str = "cairnd-tls";
/// The Secret of the operator's certificate.
pub const OPERATOR: &str = "cairn-operator-tls";
/// Annotation: when the certificate of a Secret was made, in seconds since 1970.
const MADE: &str = "jvs.io/made";
/// Annotation: for which names.
const NAMES: &str = "jvs.io/names";
/// The key of the roots in their Secret.
const ROOTS: &str = "roots.json";

#[derive(Serialize, Deserialize)]
struct StoredRoot {
    certificate: String,
    key: String,
    made: i64,
}

/// The roots as the leader has brought them up to date last.
#[derive(Debug, Clone, Default)]
pub struct Signing(Arc<RwLock<Option<State>>>);

impl Signing {
    fn put(&self, state: State) {
        *self.0.write() = Some(state);
    }

    /// The roots. Errors: they have not been read yet.
    pub fn state(&self) -> Result<State, TlsError> {
        self.0.read().clone().ok_or(TlsError::NotYet)
    }
}

/// Keeps the three Secrets.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// How they are written.
    pub api: ApiClient,
    /// Where they are.
    pub namespace: String,
    /// The names of the daemons' certificate.
    pub daemon_names: Vec<String>,
    /// The names of the operator's certificate.
    pub operator_names: Vec<String>,
    /// Told the operator's certificate.
    pub kept: Kept,
    /// Told the roots, for others who sign.
    pub signing: Signing,
}

impl Keeper {
    /// Brings everything up to date and keeps the operator's certificate. To be called by the leader, now and then. Errors: the API server refuses or
    /// does not answer; somebody else changed the roots meanwhile; the roots cannot be read; no key can be made.
    pub async fn tick(&self, now: Timestamp) -> Result<(), ReconcileError> {
        let state = self.roots(now).await?;
        let of = |name: &str| Key::new(&self.namespace, name);
        let daemons = Leaf {
            key: of(DAEMONS),
            names: &self.daemon_names,
            role: Role::Server,
            owners: &[],
        };
        leaf(&self.api, &state, &daemons, now).await?;
        let own = Leaf {
            key: of(OPERATOR),
            names: &self.operator_names,
            role: Role::Client,
            owners: &[],
        };
        let own = leaf(&self.api, &state, &own, now).await?;
        self.signing.put(state);
        self.kept.put(own);
        Ok(())
    }

    /// Reads the operator's certificate that somebody else keeps. Answers whether there is one. Errors: the API server refuses or does not answer.
    pub async fn read(&self) -> Result<bool, ReconcileError> {
        let secret: Option<Secret> = self.api.get(&Key::new(&self.namespace, OPERATOR)).await?;
        let material = secret.as_ref().and_then(material);
        if let Some(material) = &material {
            self.kept.put(material.clone());
        }
        Ok(material.is_some())
    }

    async fn roots(&self, now: Timestamp) -> Result<State, ReconcileError> {
        let key = Key::new(&self.namespace, AUTHORITY);
        let found: Option<Secret> = self.api.get(&key).await?;
        let mut state = State::default();
        if let Some(secret) = &found {
            let bytes = secret.data.as_ref().and_then(|data| data.get(ROOTS));
            let stored: Vec<StoredRoot> = match bytes {
                Some(bytes) => {
                    serde_json::from_slice(&bytes.0).map_err(|source| ReconcileError::Internal {
                        what: format!(
                            "the Secret {key} cannot be read: remove it to have new roots made, which daemons accept after they have read them"
                        ),
                        source: Box::new(source),
                    })?
                }
                None => Vec::new(),
            };
            state.roots = stored
                .into_iter()
                .map(|root| Root {
                    certificate: root.certificate,
                    key: root.key,
                    made: Timestamp::new(root.made, 0),
                })
                .collect();
        }
        let is_changed = state
            .advance("cairn operator", now)
            .map_err(|source| ReconcileError::Internal {
                what: "cannot make a root".to_owned(),
                source: Box::new(source),
            })?;
        if !is_changed {
            return Ok(state);
        }
        let stored: Vec<StoredRoot> = state
            .roots
            .iter()
            .map(|root| StoredRoot {
                certificate: root.certificate.clone(),
                key: root.key.clone(),
                made: root.made.seconds(),
            })
            .collect();
        let bytes = serde_json::to_vec(&stored).map_err(|source| ReconcileError::Internal {
            what: "cannot write the roots as JSON".to_owned(),
            source: Box::new(source),
        })?;
        let mut secret = Secret {
            metadata: metadata(
                &key,
                &[(cairn_crds::names::MANAGED_BY, cairn_crds::names::MANAGER)],
            ),
            data: Some([(ROOTS.to_owned(), ByteString(bytes))].into()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        match found {
            Some(found) => {
                secret.metadata.resource_version = found.metadata.resource_version;
                self.api.apply(None, &secret).await?;
            }
            None => {
                if self.api.create(None, &secret).await?.is_none() {
                    return Err(ReconcileError::NotLeading);
                }
            }
        }
        Ok(state)
    }
}

/// What a Secret with a certificate shall be.
pub(super) struct Leaf<'a> {
    /// Where it is.
    pub(super) key: Key,
    /// The names of the certificate.
    pub(super) names: &'a [String],
    /// Whom it is for.
    pub(super) role: Role,
    /// With whom it goes.
    pub(super) owners: &'a [OwnerReference],
}

/// Brings a Secret up to date: nothing is written if its certificate is good, comes from roots that are trusted, and its owners are right. Errors: the API server refuses or
/// does not answer; no key can be made.
pub(super) async fn leaf(
    api: &ApiClient,
    state: &State,
    wanted: &Leaf<'_>,
    now: Timestamp,
) -> Result<Material, ReconcileError> {
    let key = &wanted.key;
    let found: Option<Secret> = api.get(key).await?;
    let annotation = |name: &str| {
        let annotations = found
            .as_ref()
            .and_then(|secret| secret.metadata.annotations.as_ref());
        annotations.and_then(|annotations| annotations.get(name)).cloned()
    };
    let made = annotation(MADE).and_then(|made| made.parse().ok());
    let names = wanted.names.join(",");
    let is_good = made.is_some_and(|made| !State::is_leaf_due(Timestamp::new(made, 0), now))
        && annotation(NAMES).as_deref() == Some(&names);
    let owners = found
        .as_ref()
        .and_then(|secret| secret.metadata.owner_references.as_deref())
        .unwrap_or_default();
    let mut made = made.unwrap_or_default();
    let material = match found.as_ref().and_then(material).filter(|_| is_good) {
        Some(known) if known.authorities == state.bundle() && owners == wanted.owners => return Ok(known),
        // The certificate is good, others are trusted besides, or it goes with others.
        Some(known)
            if known.authorities == state.bundle()
                || state.bundle().contains(known.authorities.trim_end()) =>
        {
            Material {
                authorities: state.bundle(),
                ..known
            }
        }
        _ => {
            made = now.seconds();
            state
                .issue(wanted.names, wanted.role, now)
                .map_err(|source| ReconcileError::Internal {
                    what: format!("cannot make the certificate of {key}"),
                    source: Box::new(source),
                })?
        }
    };
    let mut secret = Secret {
        metadata: metadata(
            key,
            &[(cairn_crds::names::MANAGED_BY, cairn_crds::names::MANAGER)],
        ),
        data: Some(BTreeMap::from([
            (
                "tls.crt".to_owned(),
                ByteString(material.certificate.clone().into()),
            ),
            ("tls.key".to_owned(), ByteString(material.key.clone().into())),
            (
                "ca.crt".to_owned(),
                ByteString(material.authorities.clone().into()),
            ),
        ])),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    };
    secret.metadata.annotations = Some(BTreeMap::from([
        (MADE.to_owned(), made.to_string()),
        (NAMES.to_owned(), names),
    ]));
    secret.metadata.owner_references = (!wanted.owners.is_empty()).then(|| wanted.owners.to_vec());
    api.apply(None, &secret).await?;
    tracing::info!(secret = %key, "certificates were written");
    Ok(material)
}

fn material(secret: &Secret) -> Option<Material> {
    let data = secret.data.as_ref()?;
    let text = |name: &str| {
        data.get(name)
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
    };
    Some(Material {
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
        authorities: text("ca.crt")?,
    })
}
