//! What of a workspace can be changed while it is served: who may mount it, what it may hold; and checking what it holds.

use cairn_types::{ExportPolicy, WorkspaceName};

use super::Volumes;
use super::control::{failed, limit, require_capacity};
use crate::control::{CapacityLimits, ControlError, Workspace};

/// What a check of a workspace's figures has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageCheck {
    /// What was said to be there.
    pub recorded: cairn_metadata::Usage,
    /// What is there.
    pub counted: cairn_metadata::Usage,
}

impl Volumes {
    /// Changes what a workspace may hold. Durable on return, and in force for the next change. Errors: `NoWorkspace`; `OverCapacity` if it
    /// holds more, with both numbers: then nothing is changed.
    pub fn set_capacity(
        &self,
        name: &WorkspaceName,
        limits: CapacityLimits,
    ) -> Result<Workspace, ControlError> {
        let volume = self.named(name)?;
        let mut state = volume.state.write();
        if state.deleted {
            return Err(ControlError::NoWorkspace { name: name.clone() });
        }
        // What is promised to writes on their way counts.
        let bytes = crate::capacity::used_bytes(&state.open, &state.dirty);
        let usage = cairn_metadata::Usage {
            bytes: bytes.saturating_add(volume.reserved.bytes()),
            ..state.open.usage
        };
        require_capacity(name, usage, limits)?;
        let mut record = state.open.record.clone();
        record.limits = limits;
        self.shared
            .store
            .set_volume(&mut state.open, record)
            .map_err(failed)?;
        drop(state);
        Ok(self.describe(&volume))
    }

    /// Changes who may mount a workspace, and as whom. Durable on return, and in force for the next request, also of clients that have it
    /// mounted. Errors: `NoWorkspace`, `LimitExceeded`.
    pub fn set_export_policy(
        &self,
        name: &WorkspaceName,
        policy: ExportPolicy,
    ) -> Result<Workspace, ControlError> {
        limit(
            "number of allowed networks",
            policy.allow.len(),
            ExportPolicy::ALLOW_MAX,
        )?;
        let volume = self.named(name)?;
        let mut state = volume.state.write();
        if state.deleted {
            return Err(ControlError::NoWorkspace { name: name.clone() });
        }
        let mut record = state.open.record.clone();
        record.policy = policy;
        self.shared
            .store
            .set_volume(&mut state.open, record)
            .map_err(failed)?;
        drop(state);
        Ok(self.describe(&volume))
    }

    /// Counts what a workspace holds, at one moment, and puts the figure right if it is not that. Reads all its metadata; changes go on
    /// meanwhile. Errors: `NoWorkspace`, `Storage`.
    pub fn check_usage(&self, name: &WorkspaceName) -> Result<UsageCheck, ControlError> {
        let volume = self.named(name)?;
        let store = &self.shared.store;
        let (recorded, (point, _pin)) = {
            let mut state = self.quiesce(name, &volume)?;
            let point = store.end_epoch(&mut state.open).map_err(failed)?;
            (state.open.usage, point)
        };
        let check = UsageCheck {
            recorded,
            counted: store.count_usage(point).map_err(failed)?,
        };
        if check.recorded != check.counted {
            tracing::error!(workspace = %name, ?check, "the figure of what a workspace holds was wrong, and is put right");
            let mut state = volume.state.write();
            // A restore has brought other figures with another branch.
            if !state.deleted && state.open.record.head == point.branch {
                let moved = |now: u64, was: u64, is: u64| now.saturating_add(is).saturating_sub(was);
                let usage = cairn_metadata::Usage {
                    inodes: moved(state.open.usage.inodes, recorded.inodes, check.counted.inodes),
                    bytes: moved(state.open.usage.bytes, recorded.bytes, check.counted.bytes),
                };
                store.set_usage(&mut state.open, usage).map_err(failed)?;
            }
        }
        Ok(check)
    }
}
