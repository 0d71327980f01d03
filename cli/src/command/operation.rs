//! `cairn operation`: list, show, cancel, watch.

use cairn_api::{ApiError, convert, proto};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Session;
use super::follow::{Following, Interrupt, follow};
use super::outcome::outcome_text;
use super::snapshot::short;
use crate::arguments::OperationCommand;
use crate::failure::Failure;
use crate::progress::while_waiting;
use crate::{json, text};

#[derive(Serialize)]
struct Listed {
    operations: Vec<json::Operation>,
}

pub(super) async fn run(session: &mut Session, command: OperationCommand) -> Result<(), Failure> {
    match command {
        OperationCommand::List => list(session).await,
        OperationCommand::Show { id } => show(session, id).await,
        OperationCommand::Cancel { id } => cancel(session, id).await,
        OperationCommand::Watch { id } => watch(session, id).await,
    }
}

fn received(operation: Option<proto::Operation>) -> Result<proto::Operation, ApiError> {
    operation.ok_or_else(|| ApiError::missing_field("the operation"))
}

async fn list(session: &mut Session) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let asking = client.operations.list(proto::ListOperationsRequest {});
    let operations = while_waiting("listing operations", asking)
        .await?
        .into_inner()
        .operations;
    let text = list_text(&operations, &TimeZone::system())?;
    let operations = operations
        .into_iter()
        .map(json::Operation::try_from)
        .collect::<Result<_, _>>()?;
    session.output.put(&Listed { operations }, || text)?;
    Ok(())
}

fn list_text(operations: &[proto::Operation], zone: &TimeZone) -> Result<String, ApiError> {
    if operations.is_empty() {
        return Ok("nothing runs, and nothing has ended since the daemon started\n".to_owned());
    }
    let row = |operation: &proto::Operation| {
        let progress = operation.progress.unwrap_or_default();
        Ok(vec![
            short(&operation.id).to_owned(),
            json::kind(operation).to_owned(),
            subject(operation),
            text::line(&operation.store),
            json::state(operation).to_owned(),
            text::local_time(convert::timestamp(operation.started.as_ref())?, zone),
            text::duration(progress.elapsed_milliseconds / 1000),
        ])
    };
    let rows = operations.iter().map(row).collect::<Result<Vec<_>, ApiError>>()?;
    Ok(text::table(
        &["ID", "KIND", "OF", "STORE", "STATE", "STARTED", ">TIME"],
        &rows,
    ))
}

/// What an operation is about, besides its store.
fn subject(operation: &proto::Operation) -> String {
    let reference = short(&operation.reference);
    match (operation.workspace.as_str(), reference) {
        ("", "") => "everything".to_owned(),
        ("", reference) => reference.to_owned(),
        (workspace, reference) => format!("{workspace}@{reference}"),
    }
}

async fn show(session: &mut Session, id: String) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let asking = client.operations.get(proto::GetOperationRequest { id });
    let answer = while_waiting("asking for the operation", asking).await?;
    let operation = received(answer.into_inner().operation)?;
    let text = show_text(&operation, &TimeZone::system())?;
    session
        .output
        .put(&json::Operation::try_from(operation)?, || text)?;
    Ok(())
}

fn show_text(operation: &proto::Operation, zone: &TimeZone) -> Result<String, ApiError> {
    let progress = operation.progress.unwrap_or_default();
    let started = text::local_time(convert::timestamp(operation.started.as_ref())?, zone);
    let state = match operation.state() {
        proto::OperationState::Running if operation.cancel_requested => "running, asked to stop",
        _ => json::state(operation),
    };
    let lines = [
        ("id", operation.id.clone()),
        ("kind", json::kind(operation).to_owned()),
        ("of", subject(operation)),
        ("store", text::line(&operation.store)),
        ("state", state.to_owned()),
        (
            "started",
            format!(
                "{started}, {}",
                text::duration(progress.elapsed_milliseconds / 1000)
            ),
        ),
        (
            "done",
            format!(
                "{} files, {}; {} over the line",
                progress.files,
                text::size(progress.bytes),
                text::size(progress.transferred_bytes)
            ),
        ),
    ];
    let mut shown: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<8} {value}\n"))
        .collect();
    match operation.state() {
        proto::OperationState::Succeeded => shown.push_str(&outcome_text(operation)?),
        proto::OperationState::Failed => {
            let error = convert::failure(&operation.failure.clone().unwrap_or_default());
            shown.push_str(&format!("{error}\n  {}\n", error.remedy));
        }
        proto::OperationState::Running
        | proto::OperationState::Cancelled
        | proto::OperationState::Unspecified => {}
    }
    Ok(shown)
}

async fn cancel(session: &mut Session, id: String) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let asking = client.operations.cancel(proto::CancelOperationRequest { id });
    let answer = while_waiting("cancelling", asking).await?;
    let operation = received(answer.into_inner().operation)?;
    let text = match operation.state() {
        proto::OperationState::Running => format!("asked operation {} to stop\n", operation.id),
        _ => format!(
            "operation {} has ended already: {}\n",
            operation.id,
            json::state(&operation)
        ),
    };
    session
        .output
        .put(&json::Operation::try_from(operation)?, || text)?;
    Ok(())
}

async fn watch(session: &mut Session, id: String) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let asking = client.operations.get(proto::GetOperationRequest { id });
    let answer = while_waiting("asking for the operation", asking).await?;
    let how = Following {
        interrupt: Interrupt::Leaves,
        detach: false,
        again: "",
    };
    follow(session, &mut client, answer.into_inner().operation, how).await
}

#[cfg(test)]
mod tests {
    use cairn_api::{ProtoTimestamp, proto};
    use jiff::tz::TimeZone;

    use super::{list_text, show_text};

    fn operation(state: proto::OperationState) -> proto::Operation {
        proto::Operation {
            id: "9f3e".repeat(8),
            kind: proto::OperationKind::Push.into(),
            workspace: "model".to_owned(),
            reference: "a".repeat(32),
            store: "s3://b/p".to_owned(),
            state: state.into(),
            started: Some(ProtoTimestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            progress: Some(proto::Progress {
                files: 2,
                bytes: 1024,
                elapsed_milliseconds: 61_500,
                ..proto::Progress::default()
            }),
            ..proto::Operation::default()
        }
    }

    #[test]
    fn operations_are_a_table() {
        let mut all = vec![
            operation(proto::OperationState::Running),
            operation(proto::OperationState::Cancelled),
        ];
        all[1].kind = proto::OperationKind::Verify.into();
        (all[1].workspace, all[1].reference) = (String::new(), String::new());
        assert_eq!(
            list_text(&all, &TimeZone::UTC).unwrap(),
            "ID            KIND    OF                  STORE     STATE      STARTED                   TIME\n\
             9f3e9f3e9f3e  push    model@aaaaaaaaaaaa  s3://b/p  running    2023-11-14 22:13:20  1 min 1 s\n\
             9f3e9f3e9f3e  verify  everything          s3://b/p  cancelled  2023-11-14 22:13:20  1 min 1 s\n"
        );
        assert!(
            list_text(&[], &TimeZone::UTC)
                .unwrap()
                .starts_with("nothing runs")
        );
    }

    #[test]
    fn a_failure_is_shown_with_its_remedy() {
        let mut failed = operation(proto::OperationState::Failed);
        failed.failure = Some(proto::Failure {
            reason: "STORE_FULL".to_owned(),
            message: "the store is full".to_owned(),
            remedy: "free space".to_owned(),
            ..proto::Failure::default()
        });
        let text = show_text(&failed, &TimeZone::UTC).unwrap();
        assert!(
            text.contains("state    failed\n") && text.ends_with("the store is full\n  free space\n"),
            "{text}"
        );
        let mut stopping = operation(proto::OperationState::Running);
        stopping.cancel_requested = true;
        let text = show_text(&stopping, &TimeZone::UTC).unwrap();
        assert!(
            text.contains("running, asked to stop\n") && text.contains("2 files, 1.0 KiB"),
            "{text}"
        );
    }
}
