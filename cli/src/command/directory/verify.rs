//! `cairn verify`: every byte of snapshots is read.

use cairn_api::{ApiError, proto};
use cairn_snapshot::archive::Progress;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::verify::{Verification, VerifyRequest, verify};
use cairn_snapshot::repository::RepositoryError;
use cairn_snapshot::repository::text::escape;
use cairn_types::{ErrorKind, SnapshotId};
use serde::Serialize;

use super::daemon::Asked;
use super::{Opened, open, warnings_text};
use crate::arguments::VerifyArguments;
use crate::command::Session;
use crate::command::snapshot::short;
use crate::failure::{Failure, chain};
use crate::target::Target;
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Told {
    verified: Vec<Snapshot>,
    damaged: u64,
}

#[derive(Serialize)]
struct Snapshot {
    snapshot: String,
    files: u64,
    bytes: u64,
    first_read: u64,
    tree_hash: Option<String>,
    damaged: u64,
    damage: Vec<Damage>,
    error: Option<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Damage {
    path: String,
    what: String,
}

pub(super) fn run(session: &mut Session, arguments: VerifyArguments) -> Result<(), Failure> {
    let opened = open(session, Target::directory(arguments.target)?)?;
    let ids = match arguments.all {
        false => vec![opened.resolve(arguments.reference.as_deref())?],
        true => {
            let listing = opened.repository.list()?;
            let sound = listing
                .snapshots
                .iter()
                .rev()
                .map(|snapshot| snapshot.descriptor.id);
            sound.chain(listing.damaged.iter().map(|(id, _)| *id)).collect()
        }
    };
    let request = VerifyRequest {
        bytes_per_second: arguments.rate,
    };
    let watch = Watch::start(Some("verifying"))?;
    let mut told = Told {
        verified: Vec::new(),
        damaged: 0,
    };
    for id in ids {
        let (snapshot, damaged) = one(&opened, id, request, watch.progress())?;
        told.damaged += damaged;
        told.verified.push(snapshot);
    }
    drop(watch);
    tell(session, &told, &opened.named)
}

/// The same by the daemon.
pub(super) async fn by_daemon(session: &mut Session, arguments: VerifyArguments) -> Result<(), Failure> {
    let mut asked = Asked::connect(session, Target::directory(arguments.target)?).await?;
    let references = match arguments.all {
        true => Vec::new(),
        false => vec![arguments.reference.unwrap_or_else(|| "latest".to_owned())],
    };
    let request = proto::VerifyDirectoryRequest {
        repository: Some(asked.reference()),
        references,
        bytes_per_second_max: arguments.rate,
    };
    let begun = asked.client.directories.verify(request).await?.into_inner();
    let ended = asked.follow(session, begun.operation).await?;
    let Some(proto::operation::Result::DirectoryVerified(result)) = ended.result else {
        return Err(ApiError::missing_field("the result").into());
    };
    let told = Told {
        damaged: result.damaged,
        verified: result.verified.into_iter().map(Snapshot::from).collect(),
    };
    tell(session, &told, &asked.named)
}

impl From<proto::DirectoryVerified> for Snapshot {
    fn from(found: proto::DirectoryVerified) -> Self {
        let damage = found.damage.into_iter().map(|damage| Damage {
            path: escape(&damage.path),
            what: damage.what,
        });
        Snapshot {
            snapshot: found.snapshot,
            files: found.files,
            bytes: found.bytes,
            first_read: found.first_read,
            tree_hash: found.tree_hash,
            damaged: found.damaged,
            damage: damage.collect(),
            error: found.error,
            warnings: found.warnings,
        }
    }
}

/// Prints what was found.
fn tell(session: &mut Session, told: &Told, named: &str) -> Result<(), Failure> {
    let mut shown: String = told.verified.iter().map(snapshot_text).collect();
    let damages = told.damaged;
    if told.verified.is_empty() {
        shown.push_str(&format!("no snapshots; to take one: cairn snapshot {named}\n"));
    }
    session.output.put(told, || shown)?;
    match damages {
        0 => Ok(()),
        damages => Err(Failure::DamageFound {
            damages,
            remedy: "other snapshots are not touched by this; restore what is damaged from one of them, or from a copy",
        }),
    }
}

/// Verifies one snapshot. That it is damaged beyond reading is told like other damage: it says nothing of the next one.
fn one(
    opened: &Opened,
    id: SnapshotId,
    request: VerifyRequest,
    progress: &Progress,
) -> Result<(Snapshot, u64), Failure> {
    match verify(&opened.repository, id, request, progress) {
        Ok(found) => {
            let damaged = found.damaged;
            Ok((verified(id, found), damaged))
        }
        Err(error) if is_damage(&error) => {
            let snapshot = Snapshot {
                snapshot: id.to_string(),
                files: 0,
                bytes: 0,
                first_read: 0,
                tree_hash: None,
                damaged: 0,
                damage: Vec::new(),
                error: Some(chain(&error)),
                warnings: Vec::new(),
            };
            Ok((snapshot, 1))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a snapshot is damaged, or parts of it are missing.
fn is_damage(error: &OperationError) -> bool {
    match error {
        // A list or a tree that is missing, of a snapshot that exists.
        OperationError::Repository(RepositoryError::Io { .. }) => error.kind() == ErrorKind::NotFound,
        _ => error.kind() == ErrorKind::Corrupt,
    }
}

fn verified(id: SnapshotId, found: Verification) -> Snapshot {
    let damage = found.damage.into_iter().map(|damage| Damage {
        path: escape(damage.path.as_bytes()),
        what: damage.what,
    });
    Snapshot {
        snapshot: id.to_string(),
        files: found.files,
        bytes: found.bytes,
        first_read: found.first_read,
        tree_hash: found.tree_hash.map(|hash| hash.to_string()),
        damaged: found.damaged,
        damage: damage.collect(),
        error: None,
        warnings: found.warnings,
    }
}

fn snapshot_text(snapshot: &Snapshot) -> String {
    let id = short(&snapshot.snapshot);
    if let Some(error) = &snapshot.error {
        return format!("{id}  damaged: {error}\n");
    }
    let read = format!("{} files, {}", snapshot.files, text::size(snapshot.bytes));
    if snapshot.damaged == 0 {
        let first = match (snapshot.first_read, snapshot.warnings.is_empty()) {
            (0, _) => String::new(),
            (first, true) => {
                format!("; {first} files were read for the first time, their hashes are known from now on")
            }
            (first, false) => format!("; {first} files were read for the first time"),
        };
        return format!(
            "{id}  whole: {read}{first}\n{}",
            warnings_text(&snapshot.warnings)
        );
    }
    let mut told = format!("{id}  damaged: {} of {read}\n", snapshot.damaged);
    for damage in &snapshot.damage {
        told.push_str(&format!("  {}: {}\n", damage.path, text::line(&damage.what)));
    }
    told.push_str(&warnings_text(&snapshot.warnings));
    told
}
