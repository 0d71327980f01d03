//! The same by the daemon.

use cairn_api::{ApiError, convert, proto};
use cairn_types::{Clock, SnapshotId};

use super::{Change, Told, after, missing, no_such_pin, tell};
use crate::arguments::{LabelTarget, NoteArguments, PinArguments, TagArguments, UnpinArguments};
use crate::command::Session;
use crate::command::directory::daemon::{Asked, seconds};
use crate::failure::Failure;
use crate::json::directory::{DirectorySnapshot, recovered_of};
use crate::progress::while_waiting;
use crate::system;
use crate::target::Target;

/// Connects, and begins a request.
async fn asked(
    session: &Session,
    of: LabelTarget,
) -> Result<(Asked, proto::SetDirectoryLabelsRequest), Failure> {
    let reference = of.reference.ok_or_else(|| missing("a snapshot"))?;
    let asked = Asked::connect(session, Target::directory(Some(of.target))?).await?;
    let request = proto::SetDirectoryLabelsRequest {
        repository: Some(asked.reference()),
        reference,
        wait_seconds: Some(seconds(of.wait)),
        actor: Some(system::actor()),
        ..proto::SetDirectoryLabelsRequest::default()
    };
    Ok((asked, request))
}

async fn change(
    session: &mut Session,
    (mut asked, request): (Asked, proto::SetDirectoryLabelsRequest),
    change: Change,
) -> Result<(), Failure> {
    let asking = asked.client.directories.set_labels(request);
    let answer = while_waiting("changing what is said of the snapshot", asking)
        .await?
        .into_inner();
    let snapshot = answer
        .snapshot
        .ok_or_else(|| ApiError::missing_field("the snapshot"))?;
    let pinned_until = snapshot
        .pins
        .iter()
        .find(|pin| Some(pin.number) == answer.pin)
        .and_then(|pin| pin.expires.as_ref())
        .map(|time| convert::timestamp(Some(time)))
        .transpose()?;
    let told = Told {
        pin: answer.pin,
        pinned_until,
        removed: answer.removed_pins,
        recovered: recovered_of(&answer.recovered)?,
        snapshot: DirectorySnapshot::try_from(snapshot)?,
    };
    tell(session, &asked.named, change, told)
}

pub(in crate::command::directory) async fn tag(
    session: &mut Session,
    arguments: TagArguments,
) -> Result<(), Failure> {
    convert::tags(&arguments.add)?;
    convert::tags(&arguments.remove)?;
    if arguments.add.is_empty() && arguments.remove.is_empty() {
        return Err(missing("a tag, or --remove with one"));
    }
    let (asked, mut request) = asked(session, arguments.of).await?;
    (request.add_tags, request.remove_tags) = (arguments.add, arguments.remove);
    change(session, (asked, request), Change::Tags).await
}

pub(in crate::command::directory) async fn note(
    session: &mut Session,
    arguments: NoteArguments,
) -> Result<(), Failure> {
    let note = arguments.note.ok_or_else(|| missing("the words"))?;
    let (asked, mut request) = asked(session, arguments.of).await?;
    request.note = Some(note);
    change(session, (asked, request), Change::Note).await
}

pub(in crate::command::directory) async fn pin(
    session: &mut Session,
    arguments: PinArguments,
) -> Result<(), Failure> {
    let until = arguments
        .duration
        .map(|duration| after(system::SystemClock.now(), duration));
    let expires = until.transpose()?.map(convert::timestamp_message);
    let (asked, mut request) = asked(session, arguments.of).await?;
    request.add_pin = Some(proto::DirectoryNewPin {
        reason: arguments.reason,
        expires,
    });
    change(session, (asked, request), Change::Pin).await
}

pub(in crate::command::directory) async fn unpin(
    session: &mut Session,
    arguments: UnpinArguments,
) -> Result<(), Failure> {
    if arguments.all == arguments.number.is_some() {
        return Err(missing("the number of a pin, or --all"));
    }
    let (mut asked, mut request) = asked(session, arguments.of).await?;
    if let Some(number) = arguments.number {
        // A pin that is not there is told as without the daemon.
        let asking = asked
            .client
            .directories
            .get_snapshot(proto::GetDirectorySnapshotRequest {
                repository: request.repository.clone(),
                by: Some(proto::get_directory_snapshot_request::By::Reference(
                    request.reference.clone(),
                )),
            });
        let found = while_waiting("looking for the snapshot", asking)
            .await?
            .into_inner();
        let found = found
            .snapshot
            .ok_or_else(|| ApiError::missing_field("the snapshot"))?;
        if !found.pins.iter().any(|pin| pin.number == number) {
            let id = SnapshotId::parse(&found.id);
            let id = id.ok_or_else(|| ApiError::missing_field("the identity of a snapshot"))?;
            return Err(no_such_pin(id, number));
        }
        // By its identity: a tag may mean another one meanwhile.
        request.reference = found.id;
        request.remove_pins = vec![number];
    }
    request.remove_all_pins = arguments.all;
    change(session, (asked, request), Change::Unpin).await
}
