//! How object stores are reached: the tables `[[store]]`, each for the URLs that begin with its own.
//!
//! A request names a store by URL only; endpoint, region, account and where the credentials are come from here, so that no
//! secret ever travels in a request and a client cannot send the daemon's credentials to a server of its choice.

use std::path::PathBuf;
use std::time::Duration;

use cairn_content::codec::Compression;
use cairn_content::objects::{Credentials, ObjectOptions, ObjectStoreUrl};
use cairn_content::sealing::key_file::Access;
use serde::Deserialize;

use super::file::Value;

/// `[[store]]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The URL that it is for, with all that begin with it.
    pub url: Value<String>,
    /// Server to speak to.
    pub endpoint: Value<String>,
    /// Region of a bucket.
    pub region: Value<String>,
    /// Account of a container.
    pub account: Value<String>,
    /// HTTP without TLS.
    pub allow_http: Value<bool>,
    /// File with the credentials.
    pub credentials_file: Value<PathBuf>,
    /// Section of that file.
    pub credentials_profile: Value<String>,
    /// File with the key of encrypted stores.
    pub key_file: Value<PathBuf>,
    /// Take the key file whoever can read it.
    pub key_file_shared: Value<bool>,
    /// How what is pushed is compressed.
    pub compression: Value<String>,
    /// Longest wait for a connection.
    pub connect_timeout_seconds: Value<u32>,
    /// Longest wait for an answer.
    pub request_timeout_seconds: Value<u32>,
    /// How often a request is tried.
    pub attempts_max: Value<u32>,
    /// Requests at once.
    pub requests_max: Value<u32>,
}

/// `[[store]]`, as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The URL that it is for, with all that begin with it.
    pub url: ObjectStoreUrl,
    /// How those are reached.
    pub options: ObjectOptions,
    /// What encrypts those, if they are encrypted.
    pub key_file: Option<KeyFile>,
    /// How what is pushed is compressed. What is stored already is read whatever this says.
    pub compression: Compression,
}

/// Where the key of encrypted stores is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// Who may have access to it.
    pub access: Access,
}

impl StoreSettings {
    /// Whether `url` is its own, or lies below it.
    fn covers(&self, url: &ObjectStoreUrl) -> bool {
        let rest = url.as_str().strip_prefix(self.url.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The table for the store at `url`: the one with the longest URL that `url` begins with, segment by segment. Without one, the
/// defaults hold.
pub fn table<'a>(stores: &'a [StoreSettings], url: &ObjectStoreUrl) -> Option<&'a StoreSettings> {
    stores
        .iter()
        .filter(|store| store.covers(url))
        .max_by_key(|store| store.url.as_str().len())
}

/// The values of a table, without their places.
pub(super) struct Given {
    pub url: ObjectStoreUrl,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub account: Option<String>,
    pub allow_http: bool,
    pub credentials_file: Option<PathBuf>,
    pub credentials_profile: Option<String>,
    pub key_file: Option<PathBuf>,
    pub key_file_shared: bool,
    pub compression: Compression,
    pub connect_timeout_seconds: u32,
    pub request_timeout_seconds: u32,
    pub attempts_max: u32,
    pub requests_max: u32,
}

impl Given {
    pub(super) fn settings(self) -> StoreSettings {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let credentials = match self.credentials_file {
            Some(path) => Credentials::File {
                path,
                profile: self.credentials_profile.unwrap_or_else(|| "default".to_owned()),
            },
            None => Credentials::Environment,
        };
        let access = match self.key_file_shared {
            true => Access::Anybody,
            false => Access::Owner,
        };
        StoreSettings {
            url: self.url,
            compression: self.compression,
            key_file: self.key_file.map(|path| KeyFile { path, access }),
            options: ObjectOptions {
                endpoint: self.endpoint,
                region: self.region,
                account: self.account,
                allow_http: self.allow_http,
                credentials,
                connect_timeout: seconds(self.connect_timeout_seconds),
                request_timeout: seconds(self.request_timeout_seconds),
                attempts_max: self.attempts_max,
                requests_in_flight_max: self.requests_max as usize,
                ..ObjectOptions::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_content::codec::Compression;
    use cairn_content::objects::{ObjectOptions, ObjectStoreUrl};

    use super::{StoreSettings, table};

    #[test]
    fn the_longest_url_decides() {
        let store = |url: &str, region: &str| StoreSettings {
            url: ObjectStoreUrl::parse(url).unwrap(),
            options: ObjectOptions {
                region: Some(region.to_owned()),
                ..ObjectOptions::default()
            },
            key_file: None,
            compression: Compression::default(),
        };
        let stores = [
            store("s3://b", "short"),
            store("s3://b/team/x", "long"),
            store("file:///srv", "file"),
        ];
        for (url, region) in [
            ("s3://b", Some("short")),
            ("s3://b/team", Some("short")),
            ("s3://b/team/x/", Some("long")),
            ("s3://b/team/x/y", Some("long")),
            ("s3://b/team/xy", Some("short")),
            ("s3://bucket", None),
            ("gs://b", None),
            ("file:///srv/a", Some("file")),
            ("file:///srv2", None),
        ] {
            let found = table(&stores, &ObjectStoreUrl::parse(url).unwrap());
            let found = found.and_then(|store| store.options.region.as_deref());
            assert_eq!(found, region, "{url}");
        }
    }
}
