//! Following an operation to its end: progress on standard error while a person watches, findings as they come, then what
//! came of it. Ctrl-C asks the operation to stop and goes on following; a second one ends the command at once.

use std::collections::VecDeque;

use cairn_api::{ApiError, Client, Reason, convert, proto};
use tokio::signal::unix::{SignalKind, signal};

use super::Session;
use super::outcome::{finding_line, outcome_text};
use crate::failure::Failure;
use crate::json;
use crate::progress::Line;
use crate::text;

/// Updates over which the rate is averaged: about five seconds of them.
const RATE_UPDATES: usize = 25;

/// What Ctrl-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// It cancels the operation.
    Cancels,
    /// It ends the command; the operation goes on.
    Leaves,
}

/// How an operation is followed.
pub(super) struct Following<'a> {
    /// What Ctrl-C does.
    pub interrupt: Interrupt,
    /// Print the operation's id, and do not follow it.
    pub detach: bool,
    /// The command that would go on with it, for messages.
    pub again: &'a str,
}

/// Follows an operation that a request has begun.
pub(super) async fn follow(
    session: &mut Session,
    client: &mut Client,
    operation: Option<proto::Operation>,
    how: Following<'_>,
) -> Result<(), Failure> {
    let operation = operation.ok_or_else(|| ApiError::missing_field("the operation"))?;
    if how.detach {
        let id = operation.id.clone();
        session
            .output
            .put(&json::Operation::try_from(operation)?, || format!("{id}\n"))?;
        return Ok(());
    }
    let again = how.again;
    let ended = to_end(session, client, &operation, how).await?;
    told(session, succeeded(ended, again)?)
}

/// Follows an operation until it has ended, and gives how it is then.
pub(super) async fn to_end(
    session: &mut Session,
    client: &mut Client,
    operation: &proto::Operation,
    how: Following<'_>,
) -> Result<proto::Operation, Failure> {
    let id = operation.id.clone();
    // One listener for all the time: a signal between two updates counts, too.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let request = proto::WatchOperationRequest { id: id.clone() };
    let mut stream = client.operations.watch(request).await?.into_inner();
    let mut line = Line::new();
    let mut rate = Rate::default();
    let mut cancelling = false;
    let mut skipped = 0;
    let ended = loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = interrupts.recv() => {
                if how.interrupt == Interrupt::Leaves || cancelling {
                    line.clear();
                    return Err(left(&id, cancelling));
                }
                cancelling = true;
                let request = proto::CancelOperationRequest { id: id.clone() };
                client.operations.cancel(request).await?;
                continue;
            }
        };
        let Some(update) = message.map_err(|status| broken(&status, how.again))? else {
            return Err(broken(
                &tonic::Status::unavailable("the daemon ended the answer"),
                how.again,
            ));
        };
        let operation = update
            .operation
            .ok_or_else(|| ApiError::missing_field("the operation"))?;
        skipped += update.findings_skipped;
        if !update.findings.is_empty() {
            line.clear();
            for finding in update.findings {
                tell(session, finding)?;
            }
            session.output.finish()?;
        }
        if operation.state() != proto::OperationState::Running {
            break operation;
        }
        let progress = operation.progress.unwrap_or_default();
        rate.add(&progress);
        line.show(&progress_text(&operation, &rate));
    };
    line.clear();
    if skipped > 0 {
        eprintln!("cairn: {skipped} findings are not shown: the daemon keeps no more of them");
    }
    Ok(ended)
}

/// An operation that has ended, if it has succeeded. Else fails as it did.
pub(super) fn succeeded(operation: proto::Operation, again: &str) -> Result<proto::Operation, Failure> {
    match operation.state() {
        proto::OperationState::Succeeded => Ok(operation),
        proto::OperationState::Failed => {
            let failure = operation.failure.unwrap_or_default();
            Err(convert::failure(&failure).into())
        }
        proto::OperationState::Cancelled => {
            let remedy = match again {
                "" => "the command that began it goes on where it was".to_owned(),
                again => format!("to go on: {again}"),
            };
            let error = ApiError::new(
                Reason::Cancelled,
                format!(
                    "the {} was cancelled; what it has done so far is kept",
                    json::kind(&operation)
                ),
            );
            Err(error.remedy(remedy).detail("operation", &operation.id).into())
        }
        proto::OperationState::Running | proto::OperationState::Unspecified => {
            Err(ApiError::missing_field("a state that is known").into())
        }
    }
}

/// Prints what came of an operation that has succeeded.
fn told(session: &mut Session, operation: proto::Operation) -> Result<(), Failure> {
    let text = outcome_text(&operation)?;
    let damages = match &operation.result {
        Some(proto::operation::Result::Verified(verified)) => verified.damages,
        Some(proto::operation::Result::Pulled(pulled)) => pulled.left_out,
        Some(proto::operation::Result::DirectoryVerified(verified)) => verified.damaged,
        _ => 0,
    };
    session
        .output
        .put(&json::Operation::try_from(operation)?, || text)?;
    match damages {
        0 => Ok(()),
        damages => Err(Failure::DamageFound {
            damages,
            remedy: "keep the store as it is; pull archives that are sound, or restore the damaged objects from a copy",
        }),
    }
}

fn tell(session: &mut Session, finding: proto::Finding) -> Result<(), Failure> {
    if session.output.is_json() {
        if let Some(finding) = json::finding(finding) {
            session.output.object(&finding)?;
        }
    } else if let Some(line) = finding_line(&finding) {
        session.output.text(&line)?;
    }
    Ok(())
}

/// Ctrl-C, when the operation is not waited for.
fn left(id: &str, cancelling: bool) -> Failure {
    let (message, remedy) = match cancelling {
        true => (
            format!("operation {id} was asked to stop and had not ended yet"),
            format!("to see whether it has: cairn operation show {id}"),
        ),
        false => (
            format!("operation {id} goes on"),
            format!(
                "to follow it again: cairn operation watch {id}; to stop it: cairn operation cancel {id}"
            ),
        ),
    };
    ApiError::new(Reason::Cancelled, message)
        .remedy(remedy)
        .detail("operation", id)
        .into()
}

/// The daemon has gone away meanwhile.
fn broken(status: &tonic::Status, again: &str) -> Failure {
    let error = ApiError::from_status(status);
    if error.reason != Reason::DaemonUnreachable || again.is_empty() {
        return error.into();
    }
    error
        .remedy(format!(
            "see whether cairnd still runs and what it logged; then, to go on: {again}"
        ))
        .into()
}

/// The rate of the last few updates.
#[derive(Debug, Default)]
struct Rate {
    /// Milliseconds and bytes.
    samples: VecDeque<(u64, u64)>,
}

impl Rate {
    fn add(&mut self, progress: &proto::Progress) {
        if self.samples.len() == RATE_UPDATES {
            self.samples.pop_front();
        }
        self.samples
            .push_back((progress.elapsed_milliseconds, progress.bytes));
    }

    /// Bytes a second; `None` while it cannot be told.
    fn bytes_per_second(&self) -> Option<u64> {
        let ((start, before), (end, after)) = (self.samples.front()?, self.samples.back()?);
        let milliseconds = end.checked_sub(*start).filter(|time| *time > 0)?;
        let bytes = u128::from(after.saturating_sub(*before));
        u64::try_from(bytes * 1000 / u128::from(milliseconds)).ok()
    }
}

/// What is being done and how far it is, on one line.
fn progress_text(operation: &proto::Operation, rate: &Rate) -> String {
    let progress = operation.progress.unwrap_or_default();
    if operation.cancel_requested {
        return format!("{}: stopping", json::kind(operation));
    }
    let doing = match progress.phase() {
        proto::OperationPhase::Preparing | proto::OperationPhase::Unspecified => "looking what is there",
        proto::OperationPhase::Transferring => "transferring",
        proto::OperationPhase::Marking => "looking what is needed",
        proto::OperationPhase::Verifying => "verifying",
        proto::OperationPhase::Removing => "removing",
        proto::OperationPhase::Finishing => "finishing",
        proto::OperationPhase::Waiting => "waiting for its turn",
    };
    let mut parts = vec![format!("{}: {doing}", json::kind(operation))];
    if progress.files > 0 || progress.files_total > 0 {
        parts.push(match progress.files_total {
            0 => format!("{} files", progress.files),
            total => format!("{} of {total} files", progress.files),
        });
    }
    if progress.bytes > 0 || progress.bytes_total > 0 {
        parts.push(match progress.bytes_total {
            0 => text::size(progress.bytes),
            total => format!("{} of {}", text::size(progress.bytes), text::size(total)),
        });
    }
    if progress.transferred_bytes > 0 {
        parts.push(format!(
            "{} over the line",
            text::size(progress.transferred_bytes)
        ));
    }
    if let Some(rate) = rate.bytes_per_second().filter(|rate| *rate > 0) {
        parts.push(format!("{}/s", text::size(rate)));
        let left = progress.bytes_total.saturating_sub(progress.bytes);
        if left > 0 {
            parts.push(format!("{} left", text::duration(left / rate)));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use cairn_api::proto;

    use super::{RATE_UPDATES, Rate, progress_text};

    fn at(milliseconds: u64, bytes: u64) -> proto::Progress {
        proto::Progress {
            phase: proto::OperationPhase::Transferring.into(),
            files: 3,
            files_total: 10,
            bytes,
            bytes_total: 100 << 20,
            transferred_bytes: 1 << 20,
            elapsed_milliseconds: milliseconds,
        }
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.bytes_per_second(), None);
        rate.add(&at(0, 0));
        assert_eq!(rate.bytes_per_second(), None);
        rate.add(&at(500, 1000));
        assert_eq!(rate.bytes_per_second(), Some(2000));
        for step in 0..RATE_UPDATES as u64 {
            rate.add(&at(1000 + step * 100, 1000));
        }
        assert_eq!(rate.bytes_per_second(), Some(0));
    }

    #[test]
    fn progress_is_one_line() {
        let mut rate = Rate::default();
        rate.add(&at(0, 0));
        rate.add(&at(1000, 10 << 20));
        let mut operation = proto::Operation {
            kind: proto::OperationKind::Push.into(),
            progress: Some(at(1000, 10 << 20)),
            ..proto::Operation::default()
        };
        assert_eq!(
            progress_text(&operation, &rate),
            "push: transferring, 3 of 10 files, 10.0 MiB of 100.0 MiB, 1.0 MiB over the line, 10.0 MiB/s, 9 s left"
        );
        operation.progress = Some(proto::Progress::default());
        assert_eq!(
            progress_text(&operation, &Rate::default()),
            "push: looking what is there"
        );
        operation.cancel_requested = true;
        assert_eq!(progress_text(&operation, &rate), "push: stopping");
    }
}
