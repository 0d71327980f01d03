//! What people say of a snapshot after the fact, changed under the lease: tags, note, pins.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_types::SnapshotId;

use super::recover::{Recovered, recover_what_fits};
use super::{OperationError, audit};
use crate::archive::Progress;
use crate::engine::Tools;
use crate::repository::{AuditEvent, Labels, Repository};

/// Whose labels are changed, and how that is told in the audit log.
#[derive(Debug, Clone)]
pub struct LabelRequest {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What it is: `Label`, `Pin` or `Unpin`.
    pub event: AuditEvent,
    /// More of it, for people.
    pub details: BTreeMap<String, String>,
    /// How long to wait for others.
    pub wait: Duration,
}

/// Changes the labels of a snapshot; durable on return. Also tells what was put right before. A restore that was interrupted and lacks room to be
/// finished does not keep anybody from this.
///
/// # Errors
/// The lease; no such snapshot; the change is out of bounds; I/O. Then the labels are what they were.
pub fn change_labels(
    repository: &Repository,
    tools: &Tools,
    request: &LabelRequest,
    change: impl FnOnce(&mut Labels),
    progress: &Progress,
) -> Result<(Labels, Vec<Recovered>), OperationError> {
    // A pin that is removed may be what keeps the disk full.
    let _spending = repository.control().spending();
    let lease = repository.lease("labels", request.wait, progress.cancel_flag())?;
    let recovered = recover_what_fits(repository, &lease, tools, progress)?;
    let labels = repository.change_labels(&lease, request.snapshot, change)?;
    let details: Vec<(&str, String)> = request
        .details
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    audit(
        repository,
        &lease,
        request.event,
        Some(request.snapshot),
        &details,
    );
    lease.release()?;
    Ok((labels, recovered))
}
