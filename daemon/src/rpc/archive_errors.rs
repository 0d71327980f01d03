//! The edge between the failures of object stores and archives and those of the contract: one exhaustive match for each kind
//! of failure. What a person is told names the store, the object if one is concerned, and what to do.

use cairn_api::{ApiError, Reason};
use cairn_content::objects::{FenceError, ObjectError};
use cairn_snapshot::archive::Damage;
use cairn_types::ErrorKind;

use super::errors;
use crate::archives::ends::kind_of;
use crate::archives::{ArchiveError, WorkError};

/// What a client is told about work on the store at the URL `store` that failed.
pub fn work_error(error: WorkError, store: &str) -> ApiError {
    match error {
        WorkError::Control(error) => errors::api_error(error),
        WorkError::Archive(error) => archive_error(error, store),
    }
}

fn archive_error(error: ArchiveError, store: &str) -> ApiError {
    let message = error.to_string();
    match error {
        ArchiveError::Cancelled => ApiError::new(Reason::Cancelled, message)
            .remedy("the same command again goes on where it was")
            .detail("store", store),
        ArchiveError::Objects(error) => object_error(error, store),
        ArchiveError::Fence(error) => fence_error(error, store),
        ArchiveError::Source(error) => end_error(kind_of(error.as_ref()), message),
        ArchiveError::Target(error) => match kind_of(error.as_ref()) {
            // What is pulled makes no sense: nothing of this node is at fault.
            ErrorKind::Invalid => ApiError::new(Reason::ArchiveDamaged, message)
                .remedy(verify_remedy(store))
                .detail("store", store),
            kind => end_error(kind, message),
        },
        ArchiveError::NotFound { reference } => ApiError::new(
            Reason::ArchiveNotFound,
            format!("store {store} has no archive {reference:?}"),
        )
        .remedy(format!("`cairn archive list {store}` shows what is there"))
        .detail("store", store)
        .detail("reference", reference),
        ArchiveError::Ambiguous {
            reference,
            candidates,
        } => {
            let candidates: Vec<String> = candidates.iter().map(ToString::to_string).collect();
            ApiError::new(
                Reason::ArchiveAmbiguous,
                format!("{reference} fits {} archives of store {store}", candidates.len()),
            )
            .remedy("give more digits of the id")
            .detail("store", store)
            .detail("reference", reference)
            .detail("candidates", candidates.join(","))
        }
        ArchiveError::Root { object, what } => ApiError::new(
            Reason::ArchiveDamaged,
            format!("store {store}: the archive's root {object} is damaged: {what}"),
        )
        .remedy(verify_remedy(store))
        .detail("store", store)
        .detail("object", object)
        .detail("damages", 1),
        ArchiveError::NewerVersion { object, found, known } => ApiError::new(
            Reason::StoreNewer,
            format!(
                "store {store}: {object} has format version {found}, and this cairnd knows up to {known}"
            ),
        )
        .remedy(NEWER)
        .detail("store", store)
        .detail("object", object)
        .detail("found", found),
        ArchiveError::Damaged(damages) => damaged(&damages, store),
        ArchiveError::Unsupported { what } => ApiError::new(Reason::FeatureUnsupported, message)
            .remedy("use a later cairnd")
            .detail("feature", what),
    }
}

const NEWER: &str = "use the cairnd that wrote it, or a later one";

fn verify_remedy(store: &str) -> String {
    format!(
        "`cairn archive verify {store} --deep` tells what is damaged; keep the store as it is, and pull another archive \
         or restore the damaged objects from a copy"
    )
}

fn damaged(damages: &[Damage], store: &str) -> ApiError {
    let first = damages.first();
    let what = first.map_or("it is not told what", |damage| damage.what.as_str());
    let object = first.map_or("", |damage| damage.object.as_str());
    let more = match damages.len() {
        0 | 1 => String::new(),
        count => format!("; {} more are damaged or missing", count - 1),
    };
    ApiError::new(
        Reason::ArchiveDamaged,
        format!("store {store}: {object} is damaged or missing: {what}{more}"),
    )
    .remedy(verify_remedy(store))
    .detail("store", store)
    .detail("object", object)
    .detail("damages", damages.len())
}

fn object_error(error: ObjectError, store: &str) -> ApiError {
    let message = error.to_string();
    let with = |reason, remedy: &str| {
        ApiError::new(reason, message.clone())
            .remedy(remedy)
            .detail("store", store)
    };
    match error {
        ObjectError::NotFound { at, .. } => with(
            Reason::StoreDamaged,
            "somebody has removed the object behind Cairn's back: restore it from a copy of the store; `cairn archive \
             verify` tells which archives need it",
        )
        .detail("object", &at.object),
        ObjectError::AlreadyExists { at, .. } | ObjectError::Changed { at, .. } => with(
            Reason::StoreConflict,
            "somebody else writes to the store: stop that, then repeat the command",
        )
        .detail("object", &at.object),
        ObjectError::Denied { at, .. } => with(
            Reason::StoreDenied,
            "look at the credentials: those of cairnd's environment, or credentials_file in a table [[store]] of its \
             configuration; they must allow listing, reading, writing and deleting",
        )
        .detail("object", &at.object),
        ObjectError::NoBucket { .. } => with(
            Reason::StoreNotFound,
            "make the bucket or the directory, mount its disk, or correct the URL",
        ),
        ObjectError::NoSpace { at, .. } => with(
            Reason::StoreFull,
            "free space in the store (`cairn archive delete`, then `cairn archive reclaim`) or enlarge it, then repeat the \
             command: it goes on where it was",
        )
        .detail("object", &at.object),
        ObjectError::Timeout { at, .. } | ObjectError::Unavailable { at, .. } => with(
            Reason::StoreUnreachable,
            "look at the network, at the endpoint in cairnd's configuration and at the store's health, then repeat the \
             command: it goes on where it was",
        )
        .detail("object", &at.object),
        ObjectError::Short { at, .. } | ObjectError::Corrupt { at, .. } => {
            with(Reason::StoreDamaged, &verify_remedy(store)).detail("object", &at.object)
        }
        ObjectError::Invalid { at, .. } => with(
            Reason::StoreOptionInvalid,
            "correct the URL, or the table [[store]] of cairnd's configuration, then restart cairnd",
        )
        .detail("object", &at.object),
        ObjectError::Url(_) => with(Reason::StoreUrlInvalid, "correct the URL"),
        ObjectError::Name(_) => with(Reason::Internal, "report this with the log of cairnd"),
        ObjectError::Options(_) => with(
            Reason::StoreOptionInvalid,
            "correct the table [[store]] of cairnd's configuration, then restart cairnd",
        ),
    }
}

fn fence_error(error: FenceError, store: &str) -> ApiError {
    let message = error.to_string();
    let with = |reason, remedy: String| {
        ApiError::new(reason, message.clone())
            .remedy(remedy)
            .detail("store", store)
    };
    let take_over = format!(
        "use another URL; or, if that daemon is gone for good, make the store this daemon's: cairn archive take-over {store}"
    );
    match error {
        FenceError::Owned { found, .. } => with(Reason::StoreForeign, take_over)
            .detail("owner", &found.owner.name)
            .detail("epoch", found.epoch),
        FenceError::Fenced { found, epoch, .. } => {
            let owner = found.as_ref().map_or("nobody", |found| found.owner.name.as_str());
            with(Reason::StoreForeign, take_over)
                .detail("owner", owner)
                .detail("epoch", found.as_ref().map_or(epoch, |found| found.epoch))
        }
        FenceError::Newer { found, .. } => with(Reason::StoreNewer, NEWER.to_owned())
            .detail("object", "fence")
            .detail("found", found),
        FenceError::Damaged { .. } => with(
            Reason::StoreDamaged,
            "look whether the URL is the right one; restore the object fence from a copy, or, if nobody else uses the \
             store, remove it"
                .to_owned(),
        )
        .detail("object", "fence"),
        FenceError::OwnerName { .. } => with(Reason::Internal, "report this with the log of cairnd".to_owned()),
        FenceError::Store(error) => object_error(error, store),
    }
}

/// A failure of the volumes of this node, met on the way.
fn end_error(kind: ErrorKind, message: String) -> ApiError {
    errors::storage(kind, message)
}

#[cfg(test)]
mod tests;
