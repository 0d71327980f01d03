//! What came of operations, as people read it.

use std::fmt::Write;

use cairn_api::{ApiError, proto};

use super::snapshot::short;
use crate::json;
use crate::text;

/// One line for a finding; nothing for a kind of a later version.
pub(super) fn finding_line(finding: &proto::Finding) -> Option<String> {
    Some(match finding.finding.as_ref()? {
        proto::finding::Finding::Damage(damage) => damage_line(damage),
        proto::finding::Finding::Verdict(verdict) => format!(
            "{:<9}  {}  {} of {} live\n",
            json::action(verdict),
            text::line(&verdict.object),
            text::size(verdict.live_bytes),
            text::size(verdict.stored_bytes),
        ),
    })
}

fn damage_line(damage: &proto::Damage) -> String {
    let mut line = match &damage.archive {
        Some(archive) => format!("archive {}", short(archive)),
        None => "no archive".to_owned(),
    };
    // Writing to a String does not fail.
    if let Some(path) = &damage.path {
        let _ = write!(line, ": {}", text::path(path));
    }
    if let (Some(start), Some(bytes)) = (damage.range_start, damage.range_bytes) {
        let _ = write!(line, " bytes {start} to {}", start.saturating_add(bytes));
    }
    let _ = write!(line, ": {}", text::line(&damage.object));
    if let Some(offset) = damage.offset {
        let _ = write!(line, " at {offset}");
    }
    let _ = writeln!(line, ": {}", text::line(&damage.what));
    line
}

/// What came of an operation that has succeeded.
pub(super) fn outcome_text(operation: &proto::Operation) -> Result<String, ApiError> {
    let store = text::line(&operation.store);
    let result = operation
        .result
        .as_ref()
        .ok_or_else(|| ApiError::missing_field("the result"))?;
    Ok(match result {
        proto::operation::Result::Pushed(pushed) => pushed_text(pushed, &store)?,
        proto::operation::Result::Pulled(pulled) => pulled_text(pulled, &operation.workspace, &store)?,
        proto::operation::Result::Verified(verified) => format!(
            "{} of {} archives are sound; looked at {} packs, read {}\n",
            verified.archives_sound,
            verified.archives,
            verified.packs,
            text::size(verified.bytes_read)
        ),
        proto::operation::Result::Reclaimed(reclaimed) => reclaimed_text(reclaimed),
        proto::operation::Result::DirectorySaved(saved) => {
            let id = saved.snapshot.as_ref().map_or("", |snapshot| short(&snapshot.id));
            match saved.outcome() {
                proto::DirectorySaveOutcome::New => format!("took snapshot {id}\n"),
                proto::DirectorySaveOutcome::Existing => {
                    format!("snapshot {id} was taken with this key before\n")
                }
                proto::DirectorySaveOutcome::Unchanged | proto::DirectorySaveOutcome::Unspecified => {
                    format!("nothing has changed since snapshot {id}\n")
                }
            }
        }
        proto::operation::Result::DirectoryRestored(restored) => {
            let id = restored
                .snapshot
                .as_ref()
                .map_or("", |snapshot| short(&snapshot.id));
            match &restored.safety {
                Some(safety) => format!(
                    "restored snapshot {id}; what was there before is snapshot {}\n",
                    short(&safety.id)
                ),
                None => format!("restored snapshot {id}\n"),
            }
        }
        proto::operation::Result::DirectoryVerified(verified) => format!(
            "read {} snapshots; {} damages\n",
            verified.verified.len(),
            verified.damaged
        ),
        proto::operation::Result::DirectoryForked(forked) => format!(
            "wrote {}: {} entries, {}\n",
            text::path(&forked.workspace),
            forked.entries,
            text::size(forked.bytes)
        ),
        proto::operation::Result::DirectoryCollected(collected) => {
            format!("removed {} snapshots\n", collected.removed.len())
        }
    })
}

fn archive(archive: Option<&proto::Archive>) -> Result<&proto::Archive, ApiError> {
    archive.ok_or_else(|| ApiError::missing_field("the archive"))
}

fn pushed_text(pushed: &proto::PushResult, store: &str) -> Result<String, ApiError> {
    let archive = archive(pushed.archive.as_ref())?;
    let id = short(&archive.snapshot);
    if pushed.already_there {
        return Ok(format!(
            "snapshot {id} of workspace {} is in {store} already\n",
            text::line(&archive.workspace)
        ));
    }
    Ok(format!(
        "pushed snapshot {id} of workspace {} to {store}\n\
         read {} in {} files, of which {} were new; stored {} in {} packs\n",
        text::line(&archive.workspace),
        text::size(pushed.bytes_read),
        pushed.files_read,
        text::size(pushed.bytes_new),
        text::size(pushed.bytes_stored),
        pushed.packs
    ))
}

fn pulled_text(pulled: &proto::PullResult, workspace: &str, store: &str) -> Result<String, ApiError> {
    let archive = archive(pulled.archive.as_ref())?;
    let resumed = match pulled.resumed {
        true => ", after what was there from an earlier attempt",
        false => "",
    };
    let then = match &pulled.safety {
        Some(safety) => format!(
            "what it was before is snapshot {}; to undo: cairn restore {workspace} {safety}\n",
            short(safety)
        ),
        None => format!("to mount it here: cairn mount-command {workspace}\n"),
    };
    let without = match pulled.left_out {
        0 => String::new(),
        files => format!(", but for {files} files that cannot be read"),
    };
    Ok(format!(
        "workspace {workspace} is now as snapshot {} of {} in {store}{without}\n\
         wrote {} in {} files{resumed}\n{then}",
        short(&archive.snapshot),
        text::line(&archive.workspace),
        text::size(pulled.bytes),
        pulled.files,
    ))
}

fn reclaimed_text(reclaimed: &proto::ReclaimResult) -> String {
    let (removed, condemned, rewritten) = match reclaimed.dry_run {
        true => ("would remove", "would condemn or let wait", "would rewrite"),
        false => ("removed", "condemned or waiting", "rewrote"),
    };
    format!(
        "{} packs\n{removed}: {} packs, {}\n{condemned}: {} packs, {}\n{rewritten}: {} packs, {} stored for what moved\n",
        reclaimed.packs,
        reclaimed.removed_packs,
        text::size(reclaimed.removed_bytes),
        reclaimed.condemned_packs,
        text::size(reclaimed.condemned_bytes),
        reclaimed.rewritten_packs,
        text::size(reclaimed.rewritten_bytes),
    )
}

#[cfg(test)]
mod tests {
    use cairn_api::proto;
    use cairn_api::proto::operation::Result as Outcome;

    use super::{finding_line, outcome_text};

    fn text(result: Outcome) -> String {
        let operation = proto::Operation {
            workspace: "w".to_owned(),
            store: "file:///s".to_owned(),
            result: Some(result),
            ..proto::Operation::default()
        };
        outcome_text(&operation).unwrap()
    }

    fn archive() -> Option<proto::Archive> {
        Some(proto::Archive {
            snapshot: "a".repeat(32),
            workspace: "model".to_owned(),
            ..proto::Archive::default()
        })
    }

    #[test]
    fn a_push_says_what_was_new() {
        let mut pushed = proto::PushResult {
            archive: archive(),
            files_read: 3,
            bytes_read: 3 << 20,
            bytes_new: 1 << 20,
            bytes_stored: 1 << 19,
            packs: 1,
            already_there: false,
        };
        assert_eq!(
            text(Outcome::Pushed(pushed.clone())),
            "pushed snapshot aaaaaaaaaaaa of workspace model to file:///s\n\
             read 3.0 MiB in 3 files, of which 1.0 MiB were new; stored 512.0 KiB in 1 packs\n"
        );
        pushed.already_there = true;
        assert_eq!(
            text(Outcome::Pushed(pushed)),
            "snapshot aaaaaaaaaaaa of workspace model is in file:///s already\n"
        );
    }

    #[test]
    fn a_pull_says_how_to_use_it_or_to_undo_it() {
        let mut pulled = proto::PullResult {
            archive: archive(),
            files: 2,
            bytes: 1024,
            resumed: true,
            snapshot: "a".repeat(32),
            safety: None,
            left_out: 0,
        };
        assert_eq!(
            text(Outcome::Pulled(pulled.clone())),
            "workspace w is now as snapshot aaaaaaaaaaaa of model in file:///s\n\
             wrote 1.0 KiB in 2 files, after what was there from an earlier attempt\n\
             to mount it here: cairn mount-command w\n"
        );
        pulled.safety = Some("b".repeat(32));
        let told = text(Outcome::Pulled(pulled));
        assert!(
            told.ends_with(&format!("to undo: cairn restore w {}\n", "b".repeat(32))),
            "{told}"
        );
    }

    #[test]
    fn a_dry_run_does_not_say_that_something_was_done() {
        let reclaimed = proto::ReclaimResult {
            dry_run: true,
            packs: 9,
            removed_packs: 1,
            removed_bytes: 1024,
            ..proto::ReclaimResult::default()
        };
        assert_eq!(
            text(Outcome::Reclaimed(reclaimed)),
            "9 packs\nwould remove: 1 packs, 1.0 KiB\nwould condemn or let wait: 0 packs, 0 B\n\
             would rewrite: 0 packs, 0 B stored for what moved\n"
        );
    }

    #[test]
    fn findings_are_one_line_each_and_play_no_tricks() {
        let finding = |finding| proto::Finding {
            finding: Some(finding),
        };
        let damage = proto::Damage {
            archive: Some("c".repeat(32)),
            path: Some(b"a\nb\xff".to_vec()),
            range_start: Some(10),
            range_bytes: Some(5),
            object: "packs/ab/cd".to_owned(),
            offset: Some(7),
            what: "checksum\nmismatch".to_owned(),
        };
        assert_eq!(
            finding_line(&finding(proto::finding::Finding::Damage(damage))).unwrap(),
            "archive cccccccccccc: a\\nb\\xff bytes 10 to 15: packs/ab/cd at 7: checksum mismatch\n"
        );
        let verdict = proto::PackVerdict {
            object: "packs/ab/cd".to_owned(),
            action: proto::PackAction::Rewrite.into(),
            stored_bytes: 2048,
            live_bytes: 1024,
        };
        assert_eq!(
            finding_line(&finding(proto::finding::Finding::Verdict(verdict))).unwrap(),
            "rewrite    packs/ab/cd  1.0 KiB of 2.0 KiB live\n"
        );
        assert_eq!(finding_line(&proto::Finding { finding: None }), None);
    }
}
