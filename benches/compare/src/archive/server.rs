//! An S3 server on loopback, in this process: s3s-fs on a directory. It checks signatures, and it is the same for all who
//! are compared; its own work is in nobody's processor time.
//!
//! s3s-fs reads objects by 4 KiB, each on another thread: some 50 MiB/s a request, which would be all that is measured. The
//! bodies of its answers are replaced by ones that read the same bytes by [`READ_BYTES`].

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{ListObjectsInput, ListObjectsV2Input, StreamingBlob};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse, S3Request, S3Result};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// What clients sign with.
pub const ACCESS_KEY: &str = "cairn-compare";
/// What clients sign with; no secret, as the server listens on loopback for the time of a comparison.
pub const SECRET_KEY: &str = "only-on-loopback";
/// The bucket that is there.
pub const BUCKET: &str = "archives";
/// The region that clients name.
pub const REGION: &str = "us-east-1";

/// Bytes of an object that are read at once.
const READ_BYTES: usize = 512 << 10;

/// The server; it ends with this value.
pub struct S3Server {
    /// Where it listens, as a URL.
    pub endpoint: String,
    root: PathBuf,
    task: JoinHandle<()>,
}

/// Whoever signed may do everything. A list whose delimiter is empty, as restic asks for it, has none in S3; s3s-fs would
/// answer it with prefixes of one letter and no objects, so it is put right on the way.
struct Lists;

#[async_trait]
impl S3Access for Lists {
    async fn list_objects(&self, request: &mut S3Request<ListObjectsInput>) -> S3Result<()> {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        Ok(())
    }

    async fn list_objects_v2(&self, request: &mut S3Request<ListObjectsV2Input>) -> S3Result<()> {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        Ok(())
    }
}

struct Service {
    s3: S3Service,
    root: PathBuf,
    /// S3 decides conditional writes atomically; s3s-fs looks first and writes then. So these go one after another.
    conditional: Semaphore,
}

impl S3Server {
    /// Serves `root`, a directory that is there, on a free port of loopback.
    pub fn start(runtime: &Runtime, root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir(root.join(BUCKET))?;
        let files = s3s_fs::FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("{error:?}"))
            .context("opening the S3 server's directory")?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        builder.set_access(Lists);
        let service = Arc::new(Service {
            s3: builder.build(),
            root: root.to_owned(),
            conditional: Semaphore::new(1),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        Ok(S3Server {
            endpoint,
            root: root.to_owned(),
            task: runtime.spawn(accept(listener, service)),
        })
    }

    /// Where the objects with a prefix lie.
    pub fn directory(&self, prefix: &str) -> PathBuf {
        self.root.join(BUCKET).join(prefix)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, service: Arc<Service>) {
    let mut connections = JoinSet::new();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                eprintln!("the S3 server takes no more connections: {error}");
                return;
            }
        };
        // What has ended is forgotten.
        while connections.try_join_next().is_some() {}
        let service = service.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request| serve(service.clone(), request));
            // Clients may end connections as they like.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), answer)
                .await;
        });
    }
}

async fn serve(service: Arc<Service>, request: hyper::Request<Incoming>) -> Result<HttpResponse, Infallible> {
    let headers = request.headers();
    let conditional = *request.method() == Method::PUT
        && (headers.contains_key(hyper::header::IF_MATCH)
            || headers.contains_key(hyper::header::IF_NONE_MATCH));
    let _alone = match conditional {
        true => service.conditional.acquire().await.ok(),
        false => None,
    };
    let object = (*request.method() == Method::GET).then(|| request.uri().path().to_owned());
    let answer = service.s3.call(request.map(Body::from)).await;
    let mut answer = answer.unwrap_or_else(|error| {
        eprintln!("the S3 server failed: {error:?}");
        let mut failed = HttpResponse::new(Body::empty());
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        failed
    });
    if let Some(object) = object
        && let Some(body) = read_object(&service.root, &object, &answer)
    {
        *answer.body_mut() = body;
    }
    Ok(answer)
}

/// The body of an answer that gives an object or a part of it, read by larger pieces. Nothing if it does not, or if the file is
/// not there under this plain name.
fn read_object(root: &Path, object: &str, answer: &HttpResponse) -> Option<Body> {
    let header = |name| answer.headers().get(name)?.to_str().ok();
    let start = match answer.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT => {
            let range = header(CONTENT_RANGE)?.strip_prefix("bytes ")?;
            range.split_once('-')?.0.parse().ok()?
        }
        _ => return None,
    };
    // A list has no tag.
    header(ETAG)?;
    let end = start + header(CONTENT_LENGTH)?.parse::<u64>().ok()?;
    let file = Arc::new(File::open(root.join(object.trim_start_matches('/'))).ok()?);
    let pieces = (start..end).step_by(READ_BYTES).map(move |at| {
        let (file, bytes) = (file.clone(), (end - at).min(READ_BYTES as u64) as usize);
        tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; bytes];
            file.read_exact_at(&mut piece, at)?;
            Ok::<_, io::Error>(Bytes::from(piece))
        })
    });
    // One is read while the one before it is sent.
    let pieces = stream::iter(pieces)
        .buffered(2)
        .map(|piece| piece.map_err(io::Error::other)?);
    Some(Body::from(StreamingBlob::wrap(pieces)))
}
