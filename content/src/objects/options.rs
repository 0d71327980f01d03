//! Settings of a store: plain data with defaults, units and bounds.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One mebibyte, the unit of the sizes here.
const MIB: u64 = 1 << 20;

/// Where the credentials come from. Holds names of files only, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// The environment as the store's own tools read it (`AWS_*`, `GOOGLE_*`, `AZURE_*`). That includes workload
    /// identity (web identity tokens, pod identity, instance metadata, federated tokens), whose tokens are renewed
    /// without further doing.
    #[default]
    Environment,
    /// A file that is read again when it changes: for `s3` in the form of AWS's shared credentials file, for `gs` the
    /// JSON key of a service account, for `az` lines `key=value` with the names that Azure's environment variables
    /// have (`account_key`, `sas_token`, `client_id`, `client_secret`, `tenant_id`, …).
    File {
        /// The file.
        path: PathBuf,
        /// The section to read, for `s3`; others have none.
        profile: String,
    },
}

/// How a store is reached and how hard is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectOptions {
    /// The server to speak to, if it is not the provider's own: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket. Default: the environment's, else `us-east-1`.
    pub region: Option<String>,
    /// The storage account of an Azure container. Default: the environment's.
    pub account: Option<String>,
    /// Whether to speak HTTP without TLS, which shows every byte to the network. Default: no.
    pub allow_http: bool,
    /// Whether to make the directory of a `file://` store if it is absent (its parent must be there). Default: no, as
    /// an absent directory may be a disk that is not mounted.
    pub create_directory: bool,
    /// Where the credentials come from. Default: the environment.
    pub credentials: Credentials,
    /// How long making a connection may take. 100 ms to 5 min, default 10 s.
    pub connect_timeout: Duration,
    /// How long one request with its body may take. 100 ms to 1 h, default 60 s. It must allow for [`part_bytes`]
    /// and [`whole_put_bytes_max`] at the speed of the line.
    ///
    /// [`part_bytes`]: Self::part_bytes
    /// [`whole_put_bytes_max`]: Self::whole_put_bytes_max
    pub request_timeout: Duration,
    /// How often a request is tried in all. 1 to 100, default 6.
    pub attempts_max: u32,
    /// Upper bound of the pause before the second attempt. 1 ms to 1 min, default 100 ms. It doubles with each
    /// further attempt; the pause itself is drawn evenly between zero and the bound.
    pub backoff_start: Duration,
    /// Upper bound of any pause. `backoff_start` to 10 min, default 10 s.
    pub backoff_max: Duration,
    /// Requests under way at a time, over all clones. 1 to 1024, default 32.
    pub requests_in_flight_max: usize,
    /// Size of the parts that large objects are sent and fetched in. 5 MiB (the least that S3 takes) to 1 GiB,
    /// default 8 MiB.
    pub part_bytes: u64,
    /// Largest object that is sent by one request. 0 to 5 GiB, default 32 MiB: packs are; larger ones go in parts.
    pub whole_put_bytes_max: u64,
    /// Largest object that is fetched by a request that does not say how much. 1 KiB to 5 GiB, default 256 MiB.
    pub whole_get_bytes_max: u64,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        ObjectOptions {
            endpoint: None,
            region: None,
            account: None,
            allow_http: false,
            create_directory: false,
            credentials: Credentials::Environment,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            attempts_max: 6,
            backoff_start: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            requests_in_flight_max: 32,
            part_bytes: 8 * MIB,
            whole_put_bytes_max: 32 * MIB,
            whole_get_bytes_max: 256 * MIB,
        }
    }
}

/// A setting that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("object store option {name} is {found}; it must be from {least} to {most}")]
pub struct ObjectOptionsError {
    /// The setting.
    pub name: &'static str,
    /// Its value.
    pub found: String,
    /// The least possible.
    pub least: String,
    /// The most possible.
    pub most: String,
}

impl ObjectOptions {
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first setting that is out of its bounds.
    pub fn validate(&self) -> Result<(), ObjectOptionsError> {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        bounds("connect_timeout", self.connect_timeout, ms(100), s(300))?;
        bounds("request_timeout", self.request_timeout, ms(100), s(3600))?;
        bounds("attempts_max", self.attempts_max, 1, 100)?;
        bounds("backoff_start", self.backoff_start, ms(1), s(60))?;
        bounds("backoff_max", self.backoff_max, self.backoff_start, s(600))?;
        bounds("requests_in_flight_max", self.requests_in_flight_max, 1, 1024)?;
        bounds("part_bytes", self.part_bytes, 5 * MIB, 1024 * MIB)?;
        bounds("whole_put_bytes_max", self.whole_put_bytes_max, 0, 5120 * MIB)?;
        bounds("whole_get_bytes_max", self.whole_get_bytes_max, 1024, 5120 * MIB)
    }
}

fn bounds<T: PartialOrd + fmt::Debug>(
    name: &'static str,
    found: T,
    least: T,
    most: T,
) -> Result<(), ObjectOptionsError> {
    match found >= least && found <= most {
        true => Ok(()),
        false => Err(ObjectOptionsError {
            name,
            found: format!("{found:?}"),
            least: format!("{least:?}"),
            most: format!("{most:?}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ObjectOptions;

    #[test]
    fn defaults_are_within_their_bounds_and_others_are_named() {
        let good = ObjectOptions::default();
        good.validate().unwrap();
        let bad = ObjectOptions {
            part_bytes: 1 << 20,
            ..good.clone()
        };
        assert_eq!(bad.validate().unwrap_err().name, "part_bytes");
        let bad = ObjectOptions {
            backoff_max: Duration::from_millis(1),
            ..good
        };
        let error = bad.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "object store option backoff_max is 1ms; it must be from 100ms to 600s"
        );
    }
}
