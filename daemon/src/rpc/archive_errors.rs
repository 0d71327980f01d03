//! The edge between the failures of object stores and archives and those of the contract: one exhaustive match for each kind
//! of failure. What a person is told names the store, the object if one is concerned, and what to do.

use cairn_api::{ApiError, Reason};
use cairn_content::objects::{FenceError, ObjectError};
use cairn_content::pipeline::PipelineError;
use cairn_content::sealing::{KeyFileError, KeysError};
use cairn_content::store::{ChunkReadError, ChunkStoreError};
use cairn_snapshot::archive::ArchiveError;
use cairn_snapshot::archive::tree::TreeReadError;
use cairn_types::ErrorKind;
use cairn_vfs::ImportError;

use super::errors;
use crate::archives::WorkError;
use crate::archives::ends::kind_of;
use crate::assembly::with_causes;

/// What a client is told about work on the store at the URL `store` that failed.
pub fn work_error(error: WorkError, store: &str) -> ApiError {
    match error {
        WorkError::Control(error) => errors::api_error(error),
        WorkError::Archive(error) => archive_error(error, store),
        WorkError::Import(error) => import_error(error, store),
        WorkError::KeyFile(error) => key_file_error(&error, store),
        WorkError::NoKey => ApiError::new(
            Reason::StoreKeyMissing,
            format!("no key is configured for object store {store}"),
        )
        .remedy("name its key file by key_file in the table [[store]] of cairnd's configuration, then restart cairnd")
        .detail("store", store),
    }
}

fn archive_error(error: ArchiveError, store: &str) -> ApiError {
    let message = with_causes(&error);
    match error {
        ArchiveError::Cancelled => cancelled(store),
        ArchiveError::Objects(error) => object_error(&error, store),
        ArchiveError::Fence(error) => fence_error(&error, store),
        ArchiveError::Keys(error) => keys_error(&error, store),
        ArchiveError::Store(error) => chunk_store_error(&error, store),
        ArchiveError::Unreadable(file) => read_error(&file.cause, store),
        ArchiveError::Read(error) | ArchiveError::Tree(TreeReadError::Fetch(error)) => {
            read_error(&error, store)
        }
        ArchiveError::Tree(TreeReadError::Damage { chunk, .. }) => damaged(
            format!("store {store}: {message}"),
            &format!("chunk {chunk}"),
            store,
        ),
        ArchiveError::Pipeline(error) => pipeline_error(&error, store),
        ArchiveError::Source(error) => errors::storage(kind_of(error.as_ref()), message),
        ArchiveError::Target(error) => match kind_of(error.as_ref()) {
            // What is pulled makes no sense: nothing of this node is at fault.
            ErrorKind::Invalid => damaged(format!("store {store}: {message}"), "", store),
            kind => errors::storage(kind, message),
        },
        ArchiveError::Order { .. } | ArchiveError::Thread(_) => internal(message, store),
        ArchiveError::NotFound { reference, .. } => ApiError::new(Reason::ArchiveNotFound, message)
            .remedy(format!("`cairn archive list {store}` shows what is there"))
            .detail("store", store)
            .detail("reference", reference),
        ArchiveError::Ambiguous {
            reference,
            candidates,
            ..
        } => {
            let candidates: Vec<String> = candidates.iter().map(ToString::to_string).collect();
            ApiError::new(Reason::ArchiveAmbiguous, message)
                .remedy("give more digits of the id")
                .detail("store", store)
                .detail("reference", reference)
                .detail("candidates", candidates.join(","))
        }
        ArchiveError::Damaged { object, .. } => damaged(message, &object, store),
        ArchiveError::NewerVersion { object, found, .. } => ApiError::new(Reason::StoreNewer, message)
            .remedy(NEWER)
            .detail("store", store)
            .detail("object", object)
            .detail("found", found),
        ArchiveError::Busy { .. } => ApiError::new(Reason::OperationConflict, message)
            .remedy("wait until that has ended: `cairn operation list` shows it")
            .detail("store", store),
        ArchiveError::Description { found, limit, .. } => ApiError::new(Reason::LimitExceeded, message)
            .remedy("take another snapshot, with a shorter note and fewer tags")
            .detail("what", "description of the snapshot")
            .detail("found", found)
            .detail("limit", limit),
        ArchiveError::Option {
            what,
            found,
            minimum,
            maximum,
        } => ApiError::new(Reason::LimitExceeded, message)
            .remedy(format!("give {minimum} to {maximum}"))
            .detail("what", what)
            .detail("found", found)
            .detail("limit", maximum),
    }
}

fn import_error(error: ImportError, store: &str) -> ApiError {
    let message = with_causes(&error);
    match error {
        ImportError::Control(error) => errors::api_error(error),
        ImportError::Running { .. } => ApiError::new(Reason::OperationConflict, message)
            .remedy("wait until that has ended: `cairn operation list` shows it")
            .detail("store", store),
        ImportError::Invalid { .. } => damaged(format!("store {store}: {message}"), "", store),
        ImportError::None { .. } | ImportError::Broken => internal(message, store),
    }
}

fn cancelled(store: &str) -> ApiError {
    ApiError::new(Reason::Cancelled, "the work was cancelled")
        .remedy("the same command again goes on where it was")
        .detail("store", store)
}

fn internal(message: String, store: &str) -> ApiError {
    tracing::error!(error = %message, store, "work on archives broke off: please report this");
    ApiError::new(Reason::Internal, message)
        .remedy("read the log of cairnd and report the fault")
        .detail("store", store)
}

const NEWER: &str = "use the cairnd that wrote it, or a later one";

fn verify_remedy(store: &str) -> String {
    format!(
        "`cairn archive verify {store} --deep` tells what is damaged; keep the store as it is, and pull another archive, \
         restore the damaged objects from a copy, or pull the rest with --skip-damaged"
    )
}

/// `object` is empty if it is not known.
fn damaged(message: String, object: &str, store: &str) -> ApiError {
    let error = ApiError::new(Reason::ArchiveDamaged, message)
        .remedy(verify_remedy(store))
        .detail("store", store);
    match object {
        "" => error,
        object => error.detail("object", object),
    }
}

fn key_file_error(error: &KeyFileError, store: &str) -> ApiError {
    let (reason, remedy) = match error {
        KeyFileError::Read { .. } => (
            Reason::StoreKeyMissing,
            "put the key file where key_file in the table [[store]] says, readable for cairnd",
        ),
        KeyFileError::Access { .. } => (
            Reason::StoreOptionInvalid,
            "take the rights of others away: chmod 0600; or, if its directory guards it, set key_file_shared = true",
        ),
        KeyFileError::NotAFile { .. } | KeyFileError::Content { .. } => (
            Reason::StoreOptionInvalid,
            "give a file with 64 hexadecimal digits: `openssl rand -hex 32` makes one",
        ),
        KeyFileError::Write { .. } => (Reason::Internal, "report this with the log of cairnd"),
    };
    ApiError::new(reason, with_causes(error))
        .remedy(remedy)
        .detail("store", store)
}

fn keys_error(error: &KeysError, store: &str) -> ApiError {
    let message = with_causes(error);
    let with = |reason, remedy: String| {
        ApiError::new(reason, message.clone())
            .remedy(remedy)
            .detail("store", store)
    };
    let configure = "name the right key file by key_file in the table [[store]] of cairnd's configuration, then restart cairnd";
    match error {
        KeysError::Missing { .. } => with(Reason::StoreKeyMissing, configure.to_owned()),
        KeysError::Wrong { .. } | KeysError::Exists { .. } => {
            with(Reason::StoreKeyWrong, configure.to_owned())
        }
        KeysError::NotEncrypted { .. } => with(
            Reason::StoreKeyUnexpected,
            format!(
                "to make a new, encrypted store: cairn archive init {store} --encrypt; for a store that is not encrypted, take \
                 key_file out of its table [[store]]"
            ),
        ),
        KeysError::NotEmpty { .. } => with(
            Reason::StoreConflict,
            "use another URL: what is stored without encryption stays so".to_owned(),
        ),
        KeysError::Newer { .. } => with(Reason::StoreNewer, NEWER.to_owned()).detail("object", "keys"),
        KeysError::OtherStore { .. } | KeysError::Damaged { .. } | KeysError::Wrap { .. } => with(
            Reason::StoreDamaged,
            "restore the object keys from a copy of the store: nothing can be read without it".to_owned(),
        )
        .detail("object", "keys"),
        KeysError::TooMany { .. } | KeysError::Remaining { .. } | KeysError::NoSuchKey { .. } => {
            with(Reason::StoreConflict, "look which keys the store has".to_owned())
        }
        KeysError::Cipher { .. } => internal(message, store),
        KeysError::Store(error) => object_error(error, store),
    }
}

fn chunk_store_error(error: &ChunkStoreError, store: &str) -> ApiError {
    let message = with_causes(error);
    match error {
        ChunkStoreError::Setting { .. } => internal(message, store),
        ChunkStoreError::Locked { .. } => ApiError::new(Reason::StorageUnavailable, message)
            .remedy("end the process that uses the directory, then repeat the command"),
        // What is known of the store on this node: the stores of the node are at fault, or its disk.
        ChunkStoreError::Cache { .. } => errors::storage(error.kind(), message),
        ChunkStoreError::Objects(error) => object_error(error, store),
        ChunkStoreError::Pack { pack, .. } | ChunkStoreError::NoSuchPack { pack, .. } => {
            damaged(message, &format!("pack {pack}"), store)
        }
        ChunkStoreError::TooManyPacks { .. } => ApiError::new(Reason::StoreFull, message)
            .remedy("reclaim what is not needed, or begin another store")
            .detail("store", store),
        ChunkStoreError::Cancelled => cancelled(store),
    }
}

fn read_error(error: &ChunkReadError, store: &str) -> ApiError {
    let message = with_causes(error);
    match error {
        ChunkReadError::Missing { id, .. } => damaged(message, &format!("chunk {id}"), store),
        ChunkReadError::Length { pack, .. } | ChunkReadError::Damaged { pack, .. } => {
            damaged(message, &format!("pack {pack}"), store)
        }
        ChunkReadError::Fetch { source, .. } => object_error(source, store),
        ChunkReadError::Index { source, .. } => chunk_store_error(source, store),
        ChunkReadError::Start(_) | ChunkReadError::Setting { .. } => internal(message, store),
        ChunkReadError::Stopped => ApiError::new(Reason::ShuttingDown, message)
            .remedy("the same command again goes on where it was, once cairnd runs"),
    }
}

fn pipeline_error(error: &PipelineError, store: &str) -> ApiError {
    let message = with_causes(error);
    match error {
        // The store of packs is the chunk store: other causes come from nowhere.
        PipelineError::Store(cause) => match cause.downcast_ref::<ChunkStoreError>() {
            Some(cause) => chunk_store_error(cause, store),
            None => internal(message, store),
        },
        PipelineError::Cancelled => cancelled(store),
        PipelineError::Setting { .. }
        | PipelineError::Level(_)
        | PipelineError::Start(_)
        | PipelineError::Pack(_)
        | PipelineError::Panicked => internal(message, store),
    }
}

fn object_error(error: &ObjectError, store: &str) -> ApiError {
    let message = with_causes(error);
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

fn fence_error(error: &FenceError, store: &str) -> ApiError {
    let message = with_causes(error);
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
                .detail("epoch", found.as_ref().map_or(*epoch, |found| found.epoch))
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

#[cfg(test)]
mod tests;
