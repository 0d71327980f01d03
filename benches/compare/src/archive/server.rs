//! An S3 server on loopback, in this process: s3s-fs on a directory. It checks signatures, and it is the same for all who
//! are compared; its own work is in nobody's processor time.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use hyper::Method;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{ListObjectsInput, ListObjectsV2Input};
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
    Ok(service
        .s3
        .call(request.map(Body::from))
        .await
        .unwrap_or_else(|error| {
            eprintln!("the S3 server failed: {error:?}");
            let mut failed = HttpResponse::new(Body::empty());
            *failed.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            failed
        }))
}
