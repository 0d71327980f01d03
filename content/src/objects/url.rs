//! Where a store is: the URL that a person writes, checked.
//!
//! A URL never carries a secret. One with a user, a password, a query or a fragment is refused, and the refusal does
//! not repeat it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use super::name::{ObjectNameError, check_segments};

/// Longest prefix within a bucket, in bytes: with the longest name it stays below the 1024 bytes of S3.
pub const PREFIX_BYTES_MAX: usize = 400;

/// The kinds of store, for messages.
const SUPPORTED: &str =
    "file:///directory, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, memory://";

/// What kind of store a URL names, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory, absolute.
    File(PathBuf),
    /// A bucket of S3 or of a server that speaks its protocol.
    S3 { bucket: String },
    /// A bucket of Google Cloud Storage.
    Gs { bucket: String },
    /// A container of Azure Blob Storage.
    Az { container: String },
    /// Memory of this process, gone when the last [`super::Objects`] goes.
    Memory,
}

/// The URL of an object store: `file:///directory`, `s3://bucket/prefix`, `gs://bucket/prefix`,
/// `az://container/prefix` or `memory://`. Holds no secret, so it may be shown and logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStoreUrl {
    text: String,
    pub(super) place: Place,
    /// Without slashes at its ends; may be empty.
    pub(super) prefix: String,
}

/// Why a text is not the URL of an object store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectStoreUrlError {
    /// Not a URL at all.
    #[error("{url:?} is not a URL of an object store: {reason}; possible are {SUPPORTED}")]
    Malformed {
        /// The text.
        url: String,
        /// What the parser says.
        reason: String,
    },
    /// A scheme that names no kind of store.
    #[error(
        "{url:?} names an object store by the scheme {scheme:?}, which is not supported; possible are {SUPPORTED}"
    )]
    Scheme {
        /// The text.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// A `file:` URL without an absolute directory.
    #[error("{url:?} does not name a directory by its absolute path; write file:///absolute/path")]
    NotAbsolute {
        /// The text.
        url: String,
    },
    /// No bucket or container where one must be.
    #[error("{url:?} names no bucket; write {scheme}://bucket or {scheme}://bucket/prefix")]
    NoBucket {
        /// The text.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// A prefix that breaks the rule for names.
    #[error("the prefix of {url:?} is not possible")]
    Prefix {
        /// The text.
        url: String,
        /// What is wrong.
        source: ObjectNameError,
    },
    /// A part that may hold a secret. The URL is not repeated here.
    #[error(
        "the {scheme}:// URL has a {part}; credentials come from the environment or a file, other settings from options"
    )]
    Extra {
        /// Its scheme.
        scheme: String,
        /// What must go.
        part: &'static str,
    },
}

impl ObjectStoreUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// The URL does not parse, has an unknown scheme, lacks what its scheme demands or has more than it may.
    pub fn parse(text: &str) -> Result<Self, ObjectStoreUrlError> {
        let url = Url::parse(text).map_err(|error| ObjectStoreUrlError::Malformed {
            // Only the scheme: the rest did not parse, so nobody knows whether a secret is in it.
            url: match text.split_once("://") {
                Some((scheme, _)) => format!("{scheme}://…"),
                None => text.split(['@', '?']).next().unwrap_or_default().to_owned(),
            },
            reason: error.to_string(),
        })?;
        let scheme = url.scheme().to_owned();
        let extra = [
            (
                !url.username().is_empty() || url.password().is_some(),
                "user name or password",
            ),
            (url.query().is_some(), "query ('?')"),
            (url.fragment().is_some(), "fragment ('#')"),
        ];
        if let Some((_, part)) = extra.into_iter().find(|(present, _)| *present) {
            return Err(ObjectStoreUrlError::Extra { scheme, part });
        }
        let place = match scheme.as_str() {
            "file" => Place::File(directory(text, &url)?),
            "s3" => Place::S3 {
                bucket: bucket(text, &url)?,
            },
            "gs" => Place::Gs {
                bucket: bucket(text, &url)?,
            },
            "az" => Place::Az {
                container: bucket(text, &url)?,
            },
            "memory" if url.host_str().unwrap_or_default().is_empty() => Place::Memory,
            "memory" => {
                return Err(ObjectStoreUrlError::Malformed {
                    url: text.to_owned(),
                    reason: "a store in memory has no host".to_owned(),
                });
            }
            _ => {
                return Err(ObjectStoreUrlError::Scheme {
                    url: text.to_owned(),
                    scheme,
                });
            }
        };
        let prefix = match place {
            Place::File(_) => String::new(),
            _ => url.path().trim_matches('/').to_owned(),
        };
        if !prefix.is_empty() {
            check_segments(&prefix, PREFIX_BYTES_MAX).map_err(|source| ObjectStoreUrlError::Prefix {
                url: text.to_owned(),
                source,
            })?;
        }
        Ok(ObjectStoreUrl {
            text: canonical(&place, &prefix),
            place,
            prefix,
        })
    }

    /// The URL of a directory.
    ///
    /// # Errors
    /// The path is relative.
    pub fn from_directory(path: &Path) -> Result<Self, ObjectStoreUrlError> {
        let url = Url::from_directory_path(path).map_err(|()| ObjectStoreUrlError::NotAbsolute {
            url: path.display().to_string(),
        })?;
        Self::parse(url.as_str())
    }

    /// The URL in its canonical form, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ObjectStoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ObjectStoreUrl {
    type Err = ObjectStoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn canonical(place: &Place, prefix: &str) -> String {
    let root = match place {
        Place::File(path) => format!("file://{}", path.display()),
        Place::S3 { bucket } => format!("s3://{bucket}"),
        Place::Gs { bucket } => format!("gs://{bucket}"),
        Place::Az { container } => format!("az://{container}"),
        Place::Memory => "memory://".to_owned(),
    };
    match prefix {
        "" => root,
        prefix => format!("{root}/{prefix}"),
    }
}

fn directory(text: &str, url: &Url) -> Result<PathBuf, ObjectStoreUrlError> {
    let not_absolute = || ObjectStoreUrlError::NotAbsolute { url: text.to_owned() };
    // The parser makes `file:a` and `file:///a` the same and takes `file://a/b` as a host; only the form with an empty
    // host says without doubt where the directory is.
    if !text.to_ascii_lowercase().starts_with("file:///") {
        return Err(not_absolute());
    }
    let path = url.to_file_path().map_err(|()| not_absolute())?;
    // Without the slash at its end, so that one directory has one URL.
    let path: PathBuf = path.components().collect();
    match path.is_absolute() && path.parent().is_some() {
        true => Ok(path),
        false => Err(not_absolute()),
    }
}

fn bucket(text: &str, url: &Url) -> Result<String, ObjectStoreUrlError> {
    let scheme = url.scheme().to_owned();
    let bucket = match url.host_str() {
        None | Some("") => {
            return Err(ObjectStoreUrlError::NoBucket {
                url: text.to_owned(),
                scheme,
            });
        }
        Some(bucket) => bucket.to_owned(),
    };
    if url.port().is_some() {
        return Err(ObjectStoreUrlError::Malformed {
            url: text.to_owned(),
            reason: "a bucket has no port; a server's address goes into the option endpoint".to_owned(),
        });
    }
    check_segments(&bucket, NAME_OF_BUCKET_BYTES_MAX).map_err(|source| ObjectStoreUrlError::Prefix {
        url: text.to_owned(),
        source,
    })?;
    Ok(bucket)
}

/// Google Cloud Storage takes bucket names with dots of up to 222 bytes, the others less.
const NAME_OF_BUCKET_BYTES_MAX: usize = 222;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ObjectStoreUrl, ObjectStoreUrlError as E, Place};

    fn parsed(text: &str) -> ObjectStoreUrl {
        ObjectStoreUrl::parse(text).unwrap()
    }

    #[test]
    fn every_scheme_is_read() {
        let url = parsed("s3://bucket/some/prefix/");
        assert_eq!(
            (url.as_str(), url.prefix.as_str()),
            ("s3://bucket/some/prefix", "some/prefix")
        );
        assert_eq!(parsed("s3://bucket").prefix, "");
        assert!(matches!(parsed("gs://b.c/p").place, Place::Gs { bucket } if bucket == "b.c"));
        assert!(matches!(parsed("az://box").place, Place::Az { container } if container == "box"));
        assert_eq!(parsed("memory://").place, Place::Memory);
        let url = parsed("file:///var/lib/a%20b/");
        assert_eq!(url.place, Place::File("/var/lib/a b".into()));
        assert_eq!(url.as_str(), "file:///var/lib/a b");
        assert_eq!(
            ObjectStoreUrl::from_directory(Path::new("/var/lib/a b")).unwrap(),
            url
        );
    }

    #[test]
    fn refusals_name_the_url_and_the_schemes() {
        let error = ObjectStoreUrl::parse("ftp://host/x").unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, E::Scheme { .. }));
        assert!(
            text.contains("ftp://host/x") && text.contains("s3://bucket/prefix"),
            "{text}"
        );
        for relative in ["file:a", "file:/a", "file://a/b", "file://", "file:///"] {
            assert!(
                matches!(ObjectStoreUrl::parse(relative), Err(E::NotAbsolute { .. })),
                "{relative}"
            );
        }
        assert!(ObjectStoreUrl::from_directory(Path::new("a/b")).is_err());
        for none in ["s3://", "gs:///prefix", "az:container"] {
            let error = ObjectStoreUrl::parse(none).unwrap_err();
            assert!(matches!(error, E::NoBucket { .. }), "{none}: {error}");
        }
        assert!(matches!(
            ObjectStoreUrl::parse("s3://b/a//c"),
            Err(E::Prefix { .. })
        ));
        assert!(matches!(
            ObjectStoreUrl::parse("/var/lib/x"),
            Err(E::Malformed { .. })
        ));
        assert!(matches!(
            ObjectStoreUrl::parse("s3://b:9000/x"),
            Err(E::Malformed { .. })
        ));
    }

    #[test]
    fn a_secret_in_the_url_is_refused_and_not_repeated() {
        for text in [
            "s3://me:hunter2@bucket/p",
            "az://box/p?sig=hunter2",
            "s3://b#hunter2",
            "s3://a:hunter2@b:x/",
        ] {
            let error = ObjectStoreUrl::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
