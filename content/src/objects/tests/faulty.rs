//! A store in memory whose requests fail by a script: request number → fault. Counts what it is asked.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No answer, ever.
    Hang,
    /// The store answers with this status and does nothing.
    Status(u16),
    /// The connection breaks when half of the body is sent; the store keeps nothing of it.
    Torn,
    /// The store does it, and the answer is lost.
    LostAnswer,
    /// The store does it, and no answer comes.
    LostAndHang,
    /// The body of the answer ends this many bytes early, without an error. A list breaks after two names.
    Short(usize),
    /// The answer takes this long.
    Slow(Duration),
}

pub(super) struct Faulty {
    pub inner: InMemory,
    script: Mutex<Script>,
}

#[derive(Default)]
struct Script {
    at: BTreeMap<u64, Fault>,
    always: Option<Fault>,
    log: Vec<&'static str>,
    under_way: usize,
    under_way_peak: usize,
    given_up: Vec<&'static str>,
    hidden: HashSet<Path>,
    ghosts: Vec<ObjectMeta>,
}

/// Counts a request as under way until it ends.
struct UnderWay<'a>(&'a Faulty);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.script.lock().under_way -= 1;
    }
}

/// Notes that nobody waits for a write's answer any more, unless it was answered.
struct Unanswered<'a> {
    store: &'a Faulty,
    what: Option<&'static str>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.store.script.lock().given_up.extend(self.what.take());
    }
}

impl Faulty {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Faulty {
            inner: InMemory::new(),
            script: Mutex::default(),
        })
    }

    /// From here on, counting from 1: what happens to which request.
    pub(super) fn script(&self, at: impl IntoIterator<Item = (u64, Fault)>, always: Option<Fault>) {
        let mut script = self.script.lock();
        script.at = at.into_iter().collect();
        script.always = always;
        script.log.clear();
        script.under_way_peak = 0;
        script.given_up.clear();
    }

    /// The requests since the script was set.
    pub(super) fn log(&self) -> Vec<&'static str> {
        self.script.lock().log.clone()
    }

    pub(super) fn under_way_peak(&self) -> usize {
        self.script.lock().under_way_peak
    }

    /// The writes for whose answer the client did not wait. A real store may still serve them.
    pub(super) fn given_up(&self) -> Vec<&'static str> {
        self.script.lock().given_up.clone()
    }

    /// Lists are stale: they do not show `hidden` yet, and still show `ghosts`.
    pub(super) fn stale(&self, hidden: &[&str], ghosts: Vec<ObjectMeta>) {
        let mut script = self.script.lock();
        script.hidden = hidden.iter().map(|name| Path::from(*name)).collect();
        script.ghosts = ghosts;
    }

    fn begin(&self, what: &'static str) -> (UnderWay<'_>, Option<Fault>) {
        let mut script = self.script.lock();
        script.log.push(what);
        script.under_way += 1;
        script.under_way_peak = script.under_way_peak.max(script.under_way);
        let number = script.log.len() as u64;
        let fault = script.at.get(&number).copied().or(script.always);
        drop(script);
        (UnderWay(self), fault)
    }

    async fn run<T>(&self, what: &'static str, request: impl Future<Output = Result<T>>) -> Result<T> {
        let (_under_way, fault) = self.begin(what);
        let mut unanswered = Unanswered {
            store: self,
            what: Some(what),
        };
        let answer = match fault {
            None | Some(Fault::Short(_)) => request.await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Status(status)) => Err(answered(status)),
            Some(Fault::Torn) => Err(broken()),
            Some(Fault::LostAnswer) => request.await.and(Err(broken())),
            Some(Fault::LostAndHang) => {
                request.await?;
                std::future::pending().await
            }
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                request.await
            }
        };
        unanswered.what = None;
        answer
    }

    fn faulty_list(
        &self,
        what: &'static str,
        list: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (_under_way, fault) = self.begin(what);
        let (hidden, ghosts) = {
            let script = self.script.lock();
            (script.hidden.clone(), script.ghosts.clone())
        };
        let list = list
            .filter(move |meta| {
                let shown = meta.as_ref().is_ok_and(|meta| !hidden.contains(&meta.location));
                std::future::ready(shown)
            })
            .chain(futures_util::stream::iter(ghosts.into_iter().map(Ok)))
            .boxed();
        let failed = |error| futures_util::stream::iter([Err(error)]).boxed();
        match fault {
            None => list,
            Some(Fault::Hang | Fault::LostAndHang) => futures_util::stream::pending().boxed(),
            Some(Fault::Status(status)) => failed(answered(status)),
            Some(Fault::Torn | Fault::LostAnswer) => failed(broken()),
            Some(Fault::Short(_)) => list.take(2).chain(failed(broken())).boxed(),
            Some(Fault::Slow(time)) => futures_util::stream::once(tokio::time::sleep(time))
                .flat_map(|()| futures_util::stream::empty())
                .chain(list)
                .boxed(),
        }
    }
}

/// As the client words it; the tests against a real server pin that.
fn answered(status: u16) -> Error {
    let source = format!("Server returned non-2xx status code: {status}: ").into();
    let path = String::new();
    match status {
        401 => Error::Unauthenticated { path, source },
        403 => Error::PermissionDenied { path, source },
        404 => Error::NotFound { path, source },
        _ => Error::Generic { store: "S3", source },
    }
}

fn broken() -> Error {
    Error::Generic {
        store: "S3",
        source: Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)),
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.run("put", self.inner.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(answered(501))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        let (_under_way, fault) = self.begin(what);
        let cut = match fault {
            None => 0,
            Some(Fault::Short(bytes)) => bytes,
            Some(Fault::Hang | Fault::LostAndHang) => std::future::pending().await,
            Some(Fault::Status(status)) => return Err(answered(status)),
            Some(Fault::Torn | Fault::LostAnswer) => return Err(broken()),
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                0
            }
        };
        let result = self.inner.get_opts(location, options).await?;
        if cut == 0 || what == "head" {
            return Ok(result);
        }
        let (meta, range, attributes, extensions) = (
            result.meta.clone(),
            result.range.clone(),
            result.attributes.clone(),
            result.extensions.clone(),
        );
        let whole = result.bytes().await?;
        let bytes = whole.slice(..whole.len().saturating_sub(cut));
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures_util::stream::iter([Ok(bytes)]).boxed()),
            meta,
            range,
            attributes,
            extensions,
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (_under_way, fault) = self.begin("delete");
        let failed = |error| futures_util::stream::iter([Err(error)]).boxed();
        match fault {
            None | Some(Fault::Short(_)) => self.inner.delete_stream(locations),
            Some(Fault::Hang) => futures_util::stream::pending().boxed(),
            Some(Fault::Status(status)) => failed(answered(status)),
            Some(Fault::Torn) => failed(broken()),
            Some(Fault::LostAnswer) => self
                .inner
                .delete_stream(locations)
                .chain(failed(broken()))
                .boxed(),
            Some(Fault::LostAndHang) => self
                .inner
                .delete_stream(locations)
                .chain(futures_util::stream::pending())
                .boxed(),
            Some(Fault::Slow(time)) => futures_util::stream::once(tokio::time::sleep(time))
                .flat_map(|()| futures_util::stream::empty())
                .chain(self.inner.delete_stream(locations))
                .boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faulty_list("list", self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faulty_list("list", self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(answered(501))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(answered(501))
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.run("create", self.inner.create_multipart(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.run("part", self.inner.put_part(path, id, index, data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let completed = self
            .run("complete", self.inner.complete_multipart(path, id, parts))
            .await;
        match completed {
            // S3 answers so for an upload that is completed or aborted.
            Err(error) if error.to_string().contains("MultipartUpload not found") => Err(answered(404)),
            completed => completed,
        }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.run("abort", self.inner.abort_multipart(path, id)).await
    }
}
