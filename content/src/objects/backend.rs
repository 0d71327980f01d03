//! Makes the client of a store from its URL and options.
//!
//! The client's retries are off (see [`super::request`]), and so is its timeout for a whole request, which ours
//! replaces; the one for making a connection stays, so that a dead address is found early.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::credentials;
use super::error::{Context, ObjectError, Operation};
use super::options::{Credentials, ObjectOptions};
use super::url::{ObjectStoreUrl, Place};

/// A client, and what is particular about its store.
pub(super) struct Backend {
    pub store: Arc<dyn ObjectStore>,
    /// Present if objects can be written in parts.
    pub parts: Option<Arc<dyn MultipartStore>>,
    /// The directory of a `file://` store.
    pub directory: Option<PathBuf>,
    /// Whether a list is in the order of names, so that it can be taken up behind a name.
    pub list_is_ordered: bool,
    /// Whether one request removes many objects.
    pub bulk_delete: bool,
}

impl Backend {
    pub(super) fn open(url: &ObjectStoreUrl, options: &ObjectOptions) -> Result<Self, ObjectError> {
        match &url.place {
            Place::File(directory) => Self::file(url, directory, options),
            Place::S3 { bucket } => Self::s3(url, bucket, options),
            Place::Gs { bucket } => Self::gs(url, bucket, options),
            Place::Az { container } => Self::az(url, container, options),
            Place::Memory => Ok(Self::remote(Arc::new(InMemory::new()), false)),
        }
    }

    fn remote<S: ObjectStore + MultipartStore>(store: Arc<S>, bulk_delete: bool) -> Self {
        Backend {
            store: store.clone(),
            parts: Some(store),
            directory: None,
            list_is_ordered: true,
            bulk_delete,
        }
    }

    fn file(url: &ObjectStoreUrl, directory: &Path, options: &ObjectOptions) -> Result<Self, ObjectError> {
        let made = match options.create_directory && !directory.exists() {
            true => super::local::create_directory(directory),
            false => Ok(()),
        };
        let found = made
            .and_then(|()| std::fs::metadata(directory))
            .and_then(|metadata| match metadata.is_dir() {
                true => Ok(()),
                false => Err(std::io::ErrorKind::NotADirectory.into()),
            });
        found.map_err(|error| {
            let at = context(url);
            let source = Box::new(error);
            match source.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    ObjectError::Denied { at, source }
                }
                std::io::ErrorKind::StorageFull => ObjectError::NoSpace { at, source },
                _ => ObjectError::NoBucket { at, source },
            }
        })?;
        let store = LocalFileSystem::new_with_prefix(directory)
            .map_err(|error| invalid(url, error))?
            .with_fsync(true);
        Ok(Backend {
            store: Arc::new(store),
            // Parts would be copied into one file in any case.
            parts: None,
            directory: Some(directory.to_owned()),
            list_is_ordered: false,
            bulk_delete: false,
        })
    }

    fn s3(url: &ObjectStoreUrl, bucket: &str, options: &ObjectOptions) -> Result<Self, ObjectError> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client(options))
            .with_allow_http(options.allow_http)
            .with_retry(no_retry())
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        if let Credentials::File { path, profile } = &options.credentials {
            let provider = credentials::s3(path, profile).map_err(|source| denied(url, source))?;
            builder = builder.with_credentials(provider);
        }
        let store = builder.build().map_err(|error| invalid(url, error))?;
        Ok(Self::remote(Arc::new(store), true))
    }

    fn gs(url: &ObjectStoreUrl, bucket: &str, options: &ObjectOptions) -> Result<Self, ObjectError> {
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client(options))
            .with_retry(no_retry());
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        if let Credentials::File { path, .. } = &options.credentials {
            let bare = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_client_options(client(options))
                .with_retry(no_retry());
            let provider = credentials::gs(path, bare).map_err(|source| denied(url, source))?;
            builder = builder.with_credentials(provider);
        }
        let store = builder.build().map_err(|error| invalid(url, error))?;
        Ok(Self::remote(Arc::new(store), false))
    }

    fn az(url: &ObjectStoreUrl, container: &str, options: &ObjectOptions) -> Result<Self, ObjectError> {
        let with_options = |builder: MicrosoftAzureBuilder| {
            let mut builder = builder
                .with_container_name(container)
                .with_client_options(client(options))
                .with_allow_http(options.allow_http)
                .with_retry(no_retry());
            if let Some(account) = &options.account {
                builder = builder.with_account(account);
            }
            if let Some(endpoint) = &options.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            builder
        };
        let mut builder = with_options(MicrosoftAzureBuilder::from_env());
        if let Credentials::File { path, .. } = &options.credentials {
            let bare = with_options(MicrosoftAzureBuilder::new());
            let provider = credentials::az(path, bare).map_err(|source| denied(url, source))?;
            builder = builder.with_credentials(provider);
        }
        let store = builder.build().map_err(|error| invalid(url, error))?;
        Ok(Self::remote(Arc::new(store), true))
    }

    /// Whether this is a `file://` store whose directory is gone, as when its disk is not mounted.
    pub(super) fn root_is_gone(&self) -> bool {
        self.directory
            .as_ref()
            .is_some_and(|directory| !directory.is_dir())
    }
}

fn client(options: &ObjectOptions) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(options.allow_http)
        .with_connect_timeout(options.connect_timeout)
        .with_timeout_disabled()
        // One connection for each request: many over one, as HTTP/2 has it, share one congestion window.
        .with_http1_only()
        .with_pool_max_idle_per_host(options.requests_in_flight_max)
}

fn no_retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: std::time::Duration::ZERO,
    }
}

fn context(url: &ObjectStoreUrl) -> Box<Context> {
    Box::new(Context {
        store: url.to_string(),
        object: String::new(),
        operation: Operation::Open,
    })
}

fn denied(url: &ObjectStoreUrl, source: credentials::CredentialsError) -> ObjectError {
    ObjectError::Denied {
        at: context(url),
        source: Box::new(source),
    }
}

fn invalid(url: &ObjectStoreUrl, error: object_store::Error) -> ObjectError {
    ObjectError::Invalid {
        at: context(url),
        reason: format!("the settings do not suit the store ({error})"),
        source: Some(Box::new(error)),
    }
}
