//! Credentials from a file that is read again when it changes, so that keys can be rotated under a running daemon.
//!
//! A file that cannot be read or parsed any more is reported once a change is seen, and the credentials that were read
//! last stay in use: a store that no longer takes them says so. No error here repeats what is in the file.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::CredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::azure::{AzureConfigKey, AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};
use parking_lot::Mutex;

/// Largest credentials file, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a credentials file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the credentials file {} {reason}", path.display())]
pub(super) struct CredentialsError {
    path: PathBuf,
    reason: String,
}

/// What makes a provider from the text of a file, or says what is wrong with the text without repeating it.
type Load<C> = Box<dyn Fn(&str) -> Result<Provider<C>, String> + Send + Sync>;
type Provider<C> = Arc<dyn CredentialProvider<Credential = C>>;

/// What tells one version of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

struct FileCredentials<C> {
    path: PathBuf,
    load: Load<C>,
    /// The version that `provider` was made from or, if it could not be used, the last that was tried.
    current: Mutex<(Stamp, Provider<C>)>,
}

impl<C> fmt::Debug for FileCredentials<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCredentials")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<C> FileCredentials<C> {
    fn open(path: &Path, load: Load<C>) -> Result<Arc<Self>, CredentialsError> {
        let (stamp, text) = read(path)?;
        let provider = load(&text).map_err(|reason| CredentialsError {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Arc::new(FileCredentials {
            path: path.to_owned(),
            load,
            current: Mutex::new((stamp, provider)),
        }))
    }

    /// The provider for the file as it is now. A look at the file's attributes in the usual case.
    fn provider(&self) -> Provider<C> {
        let mut current = self.current.lock();
        let now = std::fs::metadata(&self.path).map(|metadata| stamp(&metadata));
        if now.as_ref().is_ok_and(|now| *now == current.0) {
            return current.1.clone();
        }
        let loaded = read(&self.path).and_then(|(stamp, text)| match (self.load)(&text) {
            Ok(provider) => Ok((stamp, provider)),
            Err(reason) => {
                current.0 = stamp;
                Err(CredentialsError {
                    path: self.path.clone(),
                    reason,
                })
            }
        });
        match loaded {
            Ok(loaded) => {
                tracing::info!(path = %self.path.display(), "read changed credentials");
                *current = loaded;
            }
            Err(error) => tracing::warn!("{error}; the credentials read before stay in use"),
        }
        current.1.clone()
    }
}

#[async_trait::async_trait]
impl<C: fmt::Debug + Send + Sync + 'static> CredentialProvider for FileCredentials<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let provider = self.provider();
        provider.get_credential().await
    }
}

/// Credentials for S3 from the section `profile` of a file in the form of AWS's shared credentials file.
pub(super) fn s3(path: &Path, profile: &str) -> Result<AwsCredentialProvider, CredentialsError> {
    let profile = profile.to_owned();
    let load: Load<AwsCredential> = Box::new(move |text| {
        let section = |wanted: &str| value_in_section(text, &profile, wanted);
        let required =
            |key: &str| section(key).ok_or_else(|| format!("has no {key} in the section [{profile}]"));
        let credential = AwsCredential {
            key_id: required("aws_access_key_id")?,
            secret_key: required("aws_secret_access_key")?,
            token: section("aws_session_token"),
        };
        Ok(Arc::new(object_store::StaticCredentialProvider::new(credential)) as Provider<AwsCredential>)
    });
    Ok(FileCredentials::open(path, load)?)
}

/// Credentials for Google Cloud Storage from the JSON key of a service account.
pub(super) fn gs(
    path: &Path,
    bare: GoogleCloudStorageBuilder,
) -> Result<GcpCredentialProvider, CredentialsError> {
    let load = Box::new(move |text: &str| {
        let store = bare.clone().with_service_account_key(text).build();
        match store {
            Ok(store) => Ok(store.credentials().clone()),
            Err(_may_repeat_the_key) => Err("is not the JSON key of a service account".to_owned()),
        }
    });
    Ok(FileCredentials::open(path, load)?)
}

/// Credentials for Azure from lines `key=value`.
pub(super) fn az(
    path: &Path,
    bare: MicrosoftAzureBuilder,
) -> Result<AzureCredentialProvider, CredentialsError> {
    let load = Box::new(move |text: &str| {
        let mut builder = bare.clone();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = number + 1;
            let (key, value) = line
                .split_once('=')
                .ok_or(format!("has no '=' in line {number}"))?;
            let key: AzureConfigKey = key
                .trim()
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| format!("has an unknown key in line {number}"))?;
            builder = builder.with_config(key, value.trim());
        }
        match builder.build() {
            Ok(store) => Ok(store.credentials().clone()),
            Err(_may_repeat_the_key) => {
                Err("has no usable credentials, or no account_name where none is set".to_owned())
            }
        }
    });
    Ok(FileCredentials::open(path, load)?)
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    }
}

fn read(path: &Path) -> Result<(Stamp, String), CredentialsError> {
    let failed = |reason: String| CredentialsError {
        path: path.to_owned(),
        reason,
    };
    let unreadable = |error: std::io::Error| failed(format!("cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(failed(format!(
            "has {} bytes where at most {FILE_BYTES_MAX} are possible",
            metadata.len()
        )));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok((stamp(&metadata), text))
}

/// `key = value` in `[section]`; the last one counts, as in AWS's own tools.
fn value_in_section(text: &str, section: &str, wanted: &str) -> Option<String> {
    let mut here = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            here = name.trim() == section;
        } else if here
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
            && key.trim().eq_ignore_ascii_case(wanted)
        {
            found = Some(value.trim().to_owned());
        }
    }
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use object_store::azure::{AzureCredential, MicrosoftAzureBuilder};
    use object_store::gcp::GoogleCloudStorageBuilder;

    use super::{az, gs, s3};

    const TWO: &str = "# comment\n[other]\naws_access_key_id=no\n\n[default]\naws_access_key_id = one\n\
                       aws_secret_access_key = hunter2\n";

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        fs::write(&path, TWO).unwrap();
        let provider = s3(&path, "default").unwrap();
        assert_eq!(provider.get_credential().await.unwrap().key_id, "one");
        assert!(!format!("{provider:?}").contains("hunter2"));

        // As a Kubernetes secret changes: by a rename.
        let new = directory.path().join("new");
        fs::write(
            &new,
            TWO.replace("= one", "= two")
                .replace("hunter2", "x\naws_session_token=t"),
        )
        .unwrap();
        fs::rename(&new, &path).unwrap();
        let credential = provider.get_credential().await.unwrap();
        assert_eq!(
            (credential.key_id.as_str(), credential.token.as_deref()),
            ("two", Some("t"))
        );

        fs::write(&path, "[default]\naws_access_key_id = three\n").unwrap();
        assert_eq!(provider.get_credential().await.unwrap().key_id, "two");
        fs::remove_file(&path).unwrap();
        assert_eq!(provider.get_credential().await.unwrap().key_id, "two");
        fs::write(&path, TWO).unwrap();
        assert_eq!(provider.get_credential().await.unwrap().key_id, "one");
    }

    #[test]
    fn a_file_without_what_is_needed_is_refused_and_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        fs::write(&path, "[default]\naws_secret_access_key = hunter2\n").unwrap();
        let text = s3(&path, "default").unwrap_err().to_string();
        assert!(
            text.contains("aws_access_key_id") && text.contains("credentials file"),
            "{text}"
        );
        fs::write(&path, "{\"private_key\": [\"hunter2\"]}").unwrap();
        let bare = GoogleCloudStorageBuilder::new().with_bucket_name("b");
        let error = gs(&path, bare).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        fs::write(&path, "account_key hunter2").unwrap();
        let bare = MicrosoftAzureBuilder::new()
            .with_container_name("c")
            .with_account("a");
        let error = az(&path, bare.clone()).unwrap_err();
        assert!(error.to_string().contains("line 1") && !format!("{error:?}").contains("hunter2"));
        assert!(s3(&directory.path().join("absent"), "default").is_err());
    }

    #[tokio::test]
    async fn azure_keys_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        fs::write(&path, "# rotated weekly\nAZURE_STORAGE_TOKEN = abc\n").unwrap();
        let bare = MicrosoftAzureBuilder::new()
            .with_container_name("c")
            .with_account("a");
        let provider = az(&path, bare).unwrap();
        let credential = provider.get_credential().await.unwrap();
        assert_eq!(*credential, AzureCredential::BearerToken("abc".to_owned()));
    }
}
