//! `cairn push`, `pull` and `archive`.

use std::os::unix::ffi::OsStrExt;

use cairn_api::{ApiError, ProtoDuration, convert, proto};
use cairn_types::ExportPolicy;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::follow::{Following, Interrupt, follow};
use super::snapshot::{short, shortened};
use super::{Session, workspace};
use crate::arguments::{ArchiveCommand, PullArguments, PushArguments};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::progress::while_waiting;
use crate::target::{Target, store_and_snapshot, workspace_and_snapshot};
use crate::{json, text};

#[derive(Serialize)]
struct Listed {
    archives: Vec<json::Archive>,
}

#[derive(Serialize)]
struct Deleted {
    deleted: Vec<json::Archive>,
}

#[derive(Serialize)]
struct StoreShown {
    store_sizes: json::StoreSizes,
}

/// What became of a store: one of these keys with its URL.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Changed<'a> {
    TakenOver(&'a str),
    Initialized(&'a str),
    Rotated(&'a str),
}

pub(super) async fn push(session: &mut Session, arguments: PushArguments) -> Result<(), Failure> {
    let PushArguments {
        target,
        store,
        detach,
    } = arguments;
    let (workspace, reference) = workspace_and_snapshot(&target)?;
    let mut client = session.connect().await?;
    let again = format!("cairn push {target} {store}");
    let request = proto::PushRequest {
        workspace,
        reference,
        store,
    };
    let answer = while_waiting("starting", client.archives.push(request)).await?;
    follow(
        session,
        &mut client,
        answer.into_inner().operation,
        cancelling(detach, &again),
    )
    .await
}

pub(super) async fn pull(session: &mut Session, arguments: PullArguments) -> Result<(), Failure> {
    let PullArguments {
        source,
        target,
        into_existing,
        skip_damaged,
        policy,
        detach,
    } = arguments;
    let policy = workspace::policy(&policy);
    let default = convert::policy_message(&ExportPolicy::default());
    if into_existing && policy != default {
        return Err(Failure::Usage {
            message: "an existing workspace keeps its policy".to_owned(),
            remedy: "leave out --squash, --anon-uid, --anon-gid, --allow, --read-only and --any-port"
                .to_owned(),
        });
    }
    convert::export_policy(Some(&policy))?;
    let (store, reference) = store_and_snapshot(&source)?;
    let name = Target::parse(&target)?.into_workspace()?;
    let mut client = session.connect().await?;
    let flag = |holds: bool, flag: &'static str| if holds { flag } else { "" };
    let existing = flag(into_existing, " --into-existing");
    let skipping = flag(skip_damaged, " --skip-damaged");
    let again = format!("cairn pull {source} {name}{existing}{skipping}");
    let request = proto::PullRequest {
        store,
        reference,
        workspace: name,
        into_existing,
        skip_damaged,
        policy: Some(policy),
    };
    let answer = while_waiting("starting", client.archives.pull(request)).await?;
    follow(
        session,
        &mut client,
        answer.into_inner().operation,
        cancelling(detach, &again),
    )
    .await
}

fn cancelling(detach: bool, again: &str) -> Following<'_> {
    Following {
        interrupt: Interrupt::Cancels,
        detach,
        again,
    }
}

pub(super) async fn run(session: &mut Session, command: ArchiveCommand) -> Result<(), Failure> {
    match command {
        ArchiveCommand::List { store } => list(session, store).await,
        ArchiveCommand::Show {
            store,
            reference: Some(reference),
            sizes,
        } => show(session, store, reference, sizes).await,
        ArchiveCommand::Show {
            store,
            reference: None,
            ..
        } => show_store(session, store).await,
        ArchiveCommand::Verify {
            store,
            references,
            deep,
            limit_rate,
            detach,
        } => {
            references
                .iter()
                .try_for_each(|reference| convert::reference(reference).map(drop))?;
            let again = format!("cairn archive verify {store}");
            let request = proto::VerifyRequest {
                store,
                references,
                deep,
                bytes_per_second_max: limit_rate,
            };
            let mut client = session.connect().await?;
            let answer = while_waiting("starting", client.archives.verify(request)).await?;
            follow(
                session,
                &mut client,
                answer.into_inner().operation,
                cancelling(detach, &again),
            )
            .await
        }
        ArchiveCommand::Delete {
            store,
            references,
            yes,
        } => delete(session, store, references, yes).await,
        ArchiveCommand::Reclaim {
            store,
            grace,
            dry_run,
            rewrite_below,
            detach,
        } => {
            let again = format!("cairn archive reclaim {store}");
            let request = proto::ReclaimRequest {
                store,
                grace: Some(ProtoDuration {
                    seconds: i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
                    nanos: 0,
                }),
                dry_run,
                rewrite_below_percent: Some(rewrite_below),
            };
            let mut client = session.connect().await?;
            let answer = while_waiting("starting", client.archives.reclaim(request)).await?;
            follow(
                session,
                &mut client,
                answer.into_inner().operation,
                cancelling(detach, &again),
            )
            .await
        }
        ArchiveCommand::TakeOver { store, yes } => take_over(session, store, yes).await,
        ArchiveCommand::Init { store, encrypt } => init(session, store, encrypt).await,
        ArchiveCommand::RotateKey { store, new_key_file } => {
            let request = proto::RotateKeyRequest {
                store: store.clone(),
                new_key_file: new_key_file.as_os_str().as_bytes().to_vec(),
            };
            let mut client = session.connect().await?;
            while_waiting("changing the key", client.archives.rotate_key(request)).await?;
            let told = format!(
                "{store} is opened by the new key from now on\n\
                 before cairnd starts again: set key_file in its configuration to {}\n",
                new_key_file.display()
            );
            session.output.put(&Changed::Rotated(&store), || told)?;
            Ok(())
        }
    }
}

fn received(archive: Option<proto::Archive>) -> Result<proto::Archive, ApiError> {
    archive.ok_or_else(|| ApiError::missing_field("the archive"))
}

async fn list(session: &mut Session, store: String) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let request = proto::ListArchivesRequest { store: store.clone() };
    let archives = while_waiting("listing archives", client.archives.list(request))
        .await?
        .into_inner()
        .archives;
    let text = list_text(&store, &archives, &TimeZone::system())?;
    let archives = archives
        .into_iter()
        .map(json::Archive::try_from)
        .collect::<Result<_, _>>()?;
    session.output.put(&Listed { archives }, || text)?;
    Ok(())
}

fn list_text(store: &str, archives: &[proto::Archive], zone: &TimeZone) -> Result<String, ApiError> {
    if archives.is_empty() {
        return Ok(format!(
            "no archives; to make one: cairn push WORKSPACE {}\n",
            text::line(store)
        ));
    }
    let row = |archive: &proto::Archive| {
        Ok(vec![
            short(&archive.snapshot).to_owned(),
            text::line(&archive.workspace),
            text::local_time(convert::timestamp(archive.created.as_ref())?, zone),
            archive.inodes.to_string(),
            text::size(archive.bytes),
            text::size(archive.added_bytes),
            text::line(&archive.tags.join(",")),
            shortened(&text::line(&archive.note)),
        ])
    };
    let rows = archives.iter().map(row).collect::<Result<Vec<_>, ApiError>>()?;
    Ok(text::table(
        &[
            "SNAPSHOT",
            "WORKSPACE",
            "TAKEN",
            ">INODES",
            ">SIZE",
            ">ADDED",
            "TAGS",
            "NOTE",
        ],
        &rows,
    ))
}

async fn show(session: &mut Session, store: String, reference: String, sizes: bool) -> Result<(), Failure> {
    convert::reference(&reference)?;
    let mut client = session.connect().await?;
    let request = proto::ShowArchiveRequest {
        store,
        reference: Some(reference),
        sizes,
    };
    let answer = while_waiting("asking for the archive", client.archives.show(request))
        .await?
        .into_inner();
    let archive = received(answer.archive)?;
    let text = show_text(&archive, answer.sizes.as_ref(), &TimeZone::system())?;
    let mut object = json::Archive::try_from(archive)?;
    object.sizes = answer.sizes.map(json::ArchiveSizes::from);
    session.output.put(&object, || text)?;
    Ok(())
}

fn show_text(
    archive: &proto::Archive,
    sizes: Option<&proto::ArchiveSizes>,
    zone: &TimeZone,
) -> Result<String, ApiError> {
    let mut lines = vec![
        ("snapshot", archive.snapshot.clone()),
        ("workspace", text::line(&archive.workspace)),
        (
            "taken",
            text::local_time(convert::timestamp(archive.created.as_ref())?, zone),
        ),
        (
            "archived",
            text::local_time(convert::timestamp(archive.archived.as_ref())?, zone),
        ),
        (
            "size",
            format!(
                "{} in {} inodes, of which {} files and {} directories",
                text::size(archive.bytes),
                archive.inodes,
                archive.files,
                archive.directories
            ),
        ),
        ("added", text::size(archive.added_bytes)),
        ("base", archive.base.clone().unwrap_or_else(|| "none".to_owned())),
        ("tags", text::line(&archive.tags.join(","))),
        ("note", text::line(&archive.note)),
    ];
    if let Some(sizes) = sizes {
        lines.extend([
            (
                "refers to",
                format!("{} of chunks", text::size(sizes.referred_bytes)),
            ),
            (
                "of these",
                format!(
                    "{} of its own, {} shared with other archives",
                    text::size(sizes.unique_bytes),
                    text::size(sizes.shared_bytes)
                ),
            ),
            (
                "would free",
                format!(
                    "about {} of stored bytes",
                    text::size(sizes.reclaimable_stored_bytes)
                ),
            ),
        ]);
    }
    Ok(lines
        .iter()
        .map(|(name, value)| format!("{name:<10} {value}").trim_end().to_owned() + "\n")
        .collect())
}

async fn show_store(session: &mut Session, store: String) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let request = proto::ShowArchiveRequest {
        store: store.clone(),
        reference: None,
        sizes: true,
    };
    let answer = while_waiting("reading the store", client.archives.show(request))
        .await?
        .into_inner();
    let sizes = answer
        .store_sizes
        .ok_or_else(|| ApiError::missing_field("the store's sizes"))?;
    let text = store_text(&store, &sizes);
    let shown = StoreShown {
        store_sizes: sizes.into(),
    };
    session.output.put(&shown, || text)?;
    Ok(())
}

fn store_text(store: &str, sizes: &proto::StoreSizes) -> String {
    let lines = [
        ("store", text::line(store)),
        ("archives", sizes.archives.to_string()),
        (
            "packs",
            format!("{}, {} stored", sizes.packs, text::size(sizes.stored_bytes)),
        ),
        (
            "live",
            format!("{} of chunks, before compression", text::size(sizes.live_bytes)),
        ),
        (
            "reclaim",
            format!("would free about {}", text::size(sizes.reclaimable_stored_bytes)),
        ),
    ];
    lines
        .iter()
        .map(|(name, value)| format!("{name:<9} {value}\n"))
        .collect()
}

async fn delete(
    session: &mut Session,
    store: String,
    references: Vec<String>,
    yes: bool,
) -> Result<(), Failure> {
    references
        .iter()
        .try_for_each(|reference| convert::reference(reference).map(drop))?;
    if !yes {
        let what = references.join(", ");
        let question = format!("Delete {what} from {store}? This cannot be undone. Type yes:");
        confirm(&format!("deleting {what}"), &question, "yes")?;
    }
    let mut client = session.connect().await?;
    // Settled before the first is gone: "latest" and prefixes may mean another archive afterwards.
    let mut snapshots: Vec<String> = Vec::new();
    for reference in references {
        let request = proto::ShowArchiveRequest {
            store: store.clone(),
            reference: Some(reference),
            sizes: false,
        };
        let found = while_waiting("asking for the archive", client.archives.show(request)).await?;
        let snapshot = received(found.into_inner().archive)?.snapshot;
        if !snapshots.contains(&snapshot) {
            snapshots.push(snapshot);
        }
    }
    let mut deleted = Vec::new();
    for reference in snapshots {
        let request = proto::DeleteArchiveRequest {
            store: store.clone(),
            reference,
        };
        let answer = while_waiting("deleting", client.archives.delete(request)).await?;
        let archive = received(answer.into_inner().archive)?;
        if !session.output.is_json() {
            let (id, workspace) = (short(&archive.snapshot), text::line(&archive.workspace));
            session
                .output
                .text(&format!("deleted archive {id} of workspace {workspace}\n"))?;
        }
        deleted.push(json::Archive::try_from(archive)?);
    }
    session.output.put(&Deleted { deleted }, || {
        format!("to free what only they needed: cairn archive reclaim {store}\n")
    })?;
    Ok(())
}

async fn take_over(session: &mut Session, store: String, yes: bool) -> Result<(), Failure> {
    if !yes {
        let question =
            format!("Take {store} over? The daemon that owns it must never write to it again. Type yes:");
        confirm(&format!("taking over {store}"), &question, "yes")?;
    }
    let mut client = session.connect().await?;
    let request = proto::TakeOverRequest { store: store.clone() };
    while_waiting("taking the store over", client.archives.take_over(request)).await?;
    let told = format!("{store} is this daemon's now\n");
    session.output.put(&Changed::TakenOver(&store), || told)?;
    Ok(())
}

async fn init(session: &mut Session, store: String, encrypt: bool) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let request = proto::InitStoreRequest {
        store: store.clone(),
        encrypt,
    };
    while_waiting("making the store", client.archives.init(request)).await?;
    let told = format!("{store} is this daemon's\n");
    session.output.put(&Changed::Initialized(&store), || told)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_api::{ProtoTimestamp, proto};
    use jiff::tz::TimeZone;

    use super::{Changed, list_text, show_text, store_text};

    fn archive() -> proto::Archive {
        let time = |seconds| Some(ProtoTimestamp { seconds, nanos: 0 });
        proto::Archive {
            snapshot: "a".repeat(32),
            workspace: "model".to_owned(),
            created: time(1_700_000_000),
            archived: time(1_700_000_061),
            note: "two\nlines".to_owned(),
            tags: vec!["v1".to_owned(), "good".to_owned()],
            inodes: 4,
            files: 2,
            directories: 2,
            bytes: 3 << 20,
            added_bytes: 1 << 20,
            base: None,
        }
    }

    #[test]
    fn archives_are_a_table() {
        assert_eq!(
            list_text("s3://b", &[archive()], &TimeZone::UTC).unwrap(),
            "SNAPSHOT      WORKSPACE  TAKEN                INODES     SIZE    ADDED  TAGS     NOTE\n\
             aaaaaaaaaaaa  model      2023-11-14 22:13:20       4  3.0 MiB  1.0 MiB  v1,good  two lines\n"
        );
        assert!(
            list_text("s3://b", &[], &TimeZone::UTC)
                .unwrap()
                .contains("cairn push WORKSPACE s3://b")
        );
    }

    #[test]
    fn an_archive_is_shown_line_by_line() {
        let sizes = proto::ArchiveSizes {
            logical_bytes: 3 << 20,
            referred_bytes: 2 << 20,
            unique_bytes: 1 << 20,
            shared_bytes: 1 << 20,
            reclaimable_stored_bytes: 1 << 19,
        };
        let base = "snapshot   aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nworkspace  model\ntaken      2023-11-14 22:13:20\n\
                    archived   2023-11-14 22:14:21\nsize       3.0 MiB in 4 inodes, of which 2 files and 2 directories\n\
                    added      1.0 MiB\nbase       none\ntags       v1,good\nnote       two lines\n";
        assert_eq!(show_text(&archive(), None, &TimeZone::UTC).unwrap(), base);
        let expected = format!(
            "{base}refers to  2.0 MiB of chunks\nof these   1.0 MiB of its own, 1.0 MiB shared with other archives\n\
             would free about 512.0 KiB of stored bytes\n"
        );
        assert_eq!(
            show_text(&archive(), Some(&sizes), &TimeZone::UTC).unwrap(),
            expected
        );
    }

    #[test]
    fn a_store_is_shown_line_by_line() {
        let sizes = proto::StoreSizes {
            archives: 2,
            packs: 3,
            stored_bytes: 1 << 20,
            live_bytes: 2 << 20,
            reclaimable_stored_bytes: 0,
        };
        assert_eq!(
            store_text("s3://b", &sizes),
            "store     s3://b\narchives  2\npacks     3, 1.0 MiB stored\nlive      2.0 MiB of chunks, before compression\n\
             reclaim   would free about 0 B\n"
        );
        let changed = serde_json::to_string(&Changed::TakenOver("s3://b")).unwrap();
        assert_eq!(changed, "{\"taken_over\":\"s3://b\"}");
    }
}
