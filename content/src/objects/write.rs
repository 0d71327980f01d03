//! Writing: whole or not at all, by one request or in parts; if the name is free; if nothing changed.
//!
//! A conditional write whose answer was lost is sent again like any other. If the condition then fails, the object is
//! read: if it holds exactly the bytes that were sent, the earlier attempt had succeeded. Hence whoever needs to know
//! that the bytes are *its own* puts something unique into them, as the fence does.

use std::sync::OnceLock;

use bytes::Bytes;
use cairn_types::Timestamp;
use futures_util::StreamExt;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectMeta, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::classify::Fault;
use super::error::{ObjectError, Operation};
use super::local::{self, Replaced};
use super::request::{AttemptError, Failure};
use super::{ObjectName, Objects};
use crate::write_behind::WINDOW_BYTES;

/// How often a multipart upload is begun anew when the store has forgotten it.
const UPLOADS_MAX: u32 = 2;

/// Most parts of one object, as S3 limits it.
const PARTS_MAX: u64 = 10_000;

/// Which bytes an object had when it was read.
#[derive(Debug, Clone)]
pub struct Version {
    update: UpdateVersion,
    /// In a `file://` store the bytes themselves decide.
    bytes: Option<Bytes>,
}

impl Version {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Version {
            update: UpdateVersion {
                e_tag: meta.e_tag.clone(),
                version: meta.version.clone(),
            },
            bytes: None,
        }
    }
}

impl Objects {
    pub(super) fn version_of(&self, mut version: Version, bytes: &Bytes) -> Version {
        if self.inner.backend.directory.is_some() {
            version.bytes = Some(bytes.clone());
        }
        version
    }

    /// Writes an object, over one that may be there. On return it is durable; before, and after an error, readers see
    /// the old object or the new one (or none), never a part. After `Timeout` or `Unavailable` it is not known which.
    ///
    /// Objects above `whole_put_bytes_max` go in parts, several in flight. If one fails, no further part is begun, those
    /// in flight are waited for (each for `request_timeout` at most), and what the store has of the upload is discarded.
    /// If the process dies, the future is dropped, or the store still takes in a part whose answer was given up, parts
    /// stay in the bucket, unseen, until its rule for incomplete multipart uploads removes them.
    ///
    /// # Errors
    /// What any request can fail with.
    pub async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        let written = match &self.inner.backend.parts {
            Some(parts) if bytes.len() as u64 > self.inner.options.whole_put_bytes_max => {
                self.put_in_parts(parts.as_ref(), name, &bytes).await
            }
            _ => self.put_whole(name, &bytes, PutMode::Overwrite).await,
        };
        written.map_err(|failure| self.error(Operation::Put, name, failure))
    }

    /// Writes an object whose name is free. If it exists with exactly these bytes because an earlier attempt of this
    /// call took effect, that is success.
    ///
    /// # Errors
    /// `AlreadyExists`; `Invalid` above `whole_put_bytes_max`, as stores check a name only for one request; and what
    /// any request can fail with.
    pub async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        let most = self.inner.options.whole_put_bytes_max;
        if bytes.len() as u64 > most {
            return Err(ObjectError::Invalid {
                at: self.context(Operation::PutNew, name),
                reason: format!(
                    "{} bytes where a new object has at most {most} (whole_put_bytes_max)",
                    bytes.len()
                ),
                source: None,
            });
        }
        let failure = match self.put_whole(name, &bytes, PutMode::Create).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        match self
            .took_effect(name, &bytes, &failure, Fault::AlreadyExists)
            .await
        {
            true => Ok(()),
            false => Err(self.error(Operation::PutNew, name, failure)),
        }
    }

    /// Writes an object if it still is what [`get_versioned`](Self::get_versioned) read.
    ///
    /// # Errors
    /// `Changed` if it is not, or is gone; and what any request can fail with.
    pub async fn replace(
        &self,
        name: &ObjectName,
        bytes: Bytes,
        version: &Version,
    ) -> Result<(), ObjectError> {
        let written = match &self.inner.backend.directory {
            None => {
                self.put_whole(name, &bytes, PutMode::Update(version.update.clone()))
                    .await
            }
            Some(directory) => {
                let path = directory.join(name.as_str());
                let expected = version.bytes.clone().unwrap_or_default();
                self.request(async |_| {
                    let (path, expected, bytes) = (path.clone(), expected.clone(), bytes.clone());
                    let replaced =
                        tokio::task::spawn_blocking(move || local::replace(&path, &expected, &bytes));
                    let replaced = replaced.await.map_err(object_store::Error::from)?;
                    match replaced.map_err(file_error)? {
                        Replaced::Done => Ok(()),
                        Replaced::Busy => Err(AttemptError::Busy(
                            "the object is being replaced by somebody else",
                        )),
                        Replaced::Changed => Err(AttemptError::Store(object_store::Error::Precondition {
                            path: path_text(name),
                            source: "the file is not what was read".into(),
                        })),
                    }
                })
                .await
            }
        };
        let failure = match written {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        match self.took_effect(name, &bytes, &failure, Fault::Changed).await {
            true => Ok(()),
            false => Err(self.error(Operation::Replace, name, failure)),
        }
    }

    /// Removes the files that interrupted writes left in a `file://` store and that were last written before `before`;
    /// says how many. Other stores discard what is unfinished themselves, and 0 is returned. `before` must leave
    /// running writers time: an hour is plenty.
    ///
    /// # Errors
    /// What any request can fail with.
    pub async fn clean_unfinished(&self, before: Timestamp) -> Result<u64, ObjectError> {
        let Some(directory) = &self.inner.backend.directory else {
            return Ok(0);
        };
        let cleaned = self.request(async |_| {
            let directory = directory.clone();
            let cleaned = tokio::task::spawn_blocking(move || local::clean(&directory, before));
            let cleaned = cleaned.await.map_err(object_store::Error::from)?;
            Ok(cleaned.map_err(file_error)?)
        });
        cleaned
            .await
            .map_err(|failure| self.error(Operation::Clean, "", failure))
    }

    async fn put_whole(&self, name: &ObjectName, bytes: &Bytes, mode: PutMode) -> Result<(), Failure> {
        if self.inner.backend.root_is_gone() {
            // The client would make the directory anew: on the wrong disk, if the right one is not mounted.
            return Err(Failure::directory_gone(1));
        }
        let path = self.path(name);
        self.request(async |_| {
            let options = PutOptions::from(mode.clone());
            let payload = PutPayload::from_bytes(bytes.clone());
            self.inner.backend.store.put_opts(&path, payload, options).await?;
            if let Some(directory) = &self.inner.backend.directory
                && bytes.len() as u64 >= WINDOW_BYTES
            {
                let written = directory.join(name.as_str());
                let _ = tokio::task::spawn_blocking(move || local::leave(&written)).await;
            }
            Ok(())
        })
        .await
    }

    /// Whether `failure` of a conditional write only says that an earlier attempt of it succeeded.
    async fn took_effect(&self, name: &ObjectName, bytes: &Bytes, failure: &Failure, fault: Fault) -> bool {
        match failure {
            Failure::Fault {
                fault: found,
                attempts,
                ..
            } if *found == fault && *attempts > 1 => self.get(name).await.is_ok_and(|there| there == bytes),
            _ => false,
        }
    }

    async fn put_in_parts(
        &self,
        parts: &dyn MultipartStore,
        name: &ObjectName,
        bytes: &Bytes,
    ) -> Result<(), Failure> {
        let path = self.path(name);
        let mut uploads = 1;
        loop {
            match self.upload(parts, &path, bytes).await {
                // Completing may take effect and its answer be lost; sent again, the store knows the upload no more.
                // Whether the object is there from it or from before cannot be told, but sending it again is right
                // in both cases.
                Err(failure) if failure.is(Fault::NotFound) && uploads < UPLOADS_MAX => uploads += 1,
                done => return done,
            }
        }
    }

    async fn upload(&self, parts: &dyn MultipartStore, path: &Path, bytes: &Bytes) -> Result<(), Failure> {
        let id = self
            .request(async |_| Ok(parts.create_multipart(path).await?))
            .await?;
        let sent = match self.put_parts(parts, path, &id, bytes).await {
            Ok(ids) => {
                self.request(async |_| {
                    parts.complete_multipart(path, &id, ids.clone()).await?;
                    Ok(())
                })
                .await
            }
            Err(failure) => Err(failure),
        };
        if sent.is_err() {
            let discarded = self
                .request(async |_| Ok(parts.abort_multipart(path, &id).await?))
                .await;
            // An upload that the store does not know has no parts.
            if discarded.is_err_and(|failure| !failure.is(Fault::NotFound)) {
                tracing::warn!(store = %self.inner.url, object = %path, "parts of a failed upload may be left over");
            }
        }
        sent
    }

    /// Sends all parts, or fails with the first failure. None is in flight on return: a part that a store takes in
    /// after the upload was aborted is kept, and paid for, by an upload that nobody knows any more (S3 API Reference,
    /// AbortMultipartUpload).
    async fn put_parts(
        &self,
        parts: &dyn MultipartStore,
        path: &Path,
        id: &str,
        bytes: &Bytes,
    ) -> Result<Vec<PartId>, Failure> {
        let first_failure = OnceLock::new();
        let pieces = pieces(bytes, self.inner.options.part_bytes);
        let ids: Vec<Option<PartId>> = futures_util::stream::iter(pieces.into_iter().enumerate())
            .map(async |(index, piece)| {
                let sent = self.put_part(parts, path, id, index, piece, &first_failure);
                // Only the first is of interest; later ones may just be parts that were not begun.
                sent.await.map_err(|failure| first_failure.set(failure)).ok()
            })
            .buffered(self.inner.options.requests_in_flight_max)
            .collect()
            .await;
        match first_failure.into_inner() {
            Some(failure) => Err(failure),
            None => Ok(ids.into_iter().flatten().collect()),
        }
    }

    /// Sends a part; does not begin, or try again, once another has failed.
    async fn put_part(
        &self,
        parts: &dyn MultipartStore,
        path: &Path,
        id: &str,
        index: usize,
        piece: Bytes,
        first_failure: &OnceLock<Failure>,
    ) -> Result<PartId, Failure> {
        let id = id.to_owned();
        self.request(async |_| {
            if first_failure.get().is_some() {
                return Err(AttemptError::Abandoned("another part of the upload failed"));
            }
            let payload = PutPayload::from_bytes(piece.clone());
            Ok(parts.put_part(path, &id, index, payload).await?)
        })
        .await
    }
}

/// Pieces of equal size but the last: `part_bytes`, or more if there would be too many.
fn pieces(bytes: &Bytes, part_bytes: u64) -> Vec<Bytes> {
    let step = part_bytes.max((bytes.len() as u64).div_ceil(PARTS_MAX)).max(1);
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let mut rest = bytes.clone();
    let mut pieces = Vec::with_capacity(bytes.len() / step + 1);
    while rest.len() > step {
        pieces.push(rest.split_to(step));
    }
    pieces.push(rest);
    pieces
}

fn file_error(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "file",
        source: Box::new(error),
    }
}

fn path_text(name: &ObjectName) -> String {
    name.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::pieces;

    #[test]
    fn pieces_are_the_whole_and_not_too_many() {
        let bytes = Bytes::from((0..=255).collect::<Vec<u8>>());
        for part_bytes in [1, 7, 255, 256, 300] {
            let pieces = pieces(&bytes, part_bytes);
            assert_eq!(pieces.concat(), bytes);
            assert_eq!(pieces.len() as u64, 256_u64.div_ceil(part_bytes));
        }
        let many = Bytes::from(vec![0; 25_000]);
        assert_eq!(pieces(&many, 1).len(), 8334);
    }
}
