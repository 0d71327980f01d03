//! Reads the errors of the store's client: what happened, and may the request be sent again?
//!
//! `object_store` tells apart only what it needs itself and keeps the type of its HTTP errors private. The status code
//! is therefore read from the text of the error that holds it; the tests against a real server pin that text.

use std::error::Error;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

/// What an error of the client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NotFound,
    NoBucket,
    AlreadyExists,
    /// A condition on the object's version does not hold.
    Changed,
    Denied,
    /// The service that hands out credentials did not. May pass.
    NoCredentials,
    NoSpace,
    /// May pass: the same request can succeed later.
    Transient,
    /// Wrong region or endpoint: the store sends the client elsewhere.
    Misdirected,
    /// The store cannot do this.
    Unsupported,
    /// The store refused the request as such, or the client failed. Sending it again would not help.
    Refused,
}

impl Fault {
    /// Whether the same request can succeed later.
    pub(super) fn may_pass(self) -> bool {
        matches!(self, Fault::Transient | Fault::NoCredentials)
    }
}

/// What `error` means.
pub(super) fn classify(error: &object_store::Error) -> Fault {
    use object_store::Error as E;
    if asks_for_credentials(error) {
        return Fault::NoCredentials;
    }
    match error {
        E::NotFound { .. } => match mentions(error, &NO_BUCKET) {
            true => Fault::NoBucket,
            false => Fault::NotFound,
        },
        E::AlreadyExists { .. } => Fault::AlreadyExists,
        E::Precondition { .. } | E::NotModified { .. } => Fault::Changed,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Fault::Denied,
        E::NotSupported { .. } | E::NotImplemented { .. } => Fault::Unsupported,
        E::Generic { .. } => classify_causes(error),
        _ => Fault::Refused,
    }
}

const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"];
const NO_SPACE: [&str; 4] = [
    "StorageFull",
    "QuotaExceeded",
    "InsufficientStorage",
    "InsufficientCapacity",
];
const EXPIRED: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];
const AGAIN: [&str; 3] = ["RequestTimeout", "InternalError", "SlowDown"];
const UNSUPPORTED_STATUS: [u16; 3] = [405, 501, 505];

/// Without credentials the client asks the instance's metadata service, which answers only inside of a cloud. That is a
/// matter of credentials in the end, not of the store's health; but inside of a cloud it may be busy.
fn asks_for_credentials(error: &object_store::Error) -> bool {
    mentions(
        error,
        &[
            "://169.254.169.254/",
            "://169.254.170.2/",
            "://metadata.google.internal",
            "://metadata/",
        ],
    )
}

fn classify_causes(error: &object_store::Error) -> Fault {
    for cause in causes(error) {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Connect
                | HttpErrorKind::Request
                | HttpErrorKind::Timeout
                | HttpErrorKind::Interrupted
                | HttpErrorKind::Decode => Fault::Transient,
                _ => Fault::Refused,
            };
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return classify_io(error);
        }
    }
    match status(error) {
        Some(_) if mentions(error, &NO_SPACE) => Fault::NoSpace,
        Some(507) => Fault::NoSpace,
        // The client tells these apart itself, except for lists and parts.
        Some(401 | 403) => Fault::Denied,
        Some(404) if mentions(error, &NO_BUCKET) => Fault::NoBucket,
        Some(404) => Fault::NotFound,
        Some(408 | 429) => Fault::Transient,
        Some(400..500) if mentions(error, &EXPIRED) => Fault::Denied,
        Some(status) if UNSUPPORTED_STATUS.contains(&status) => Fault::Unsupported,
        Some(500..600) => Fault::Transient,
        Some(400) if mentions(error, &["RequestTimeout"]) => Fault::Transient,
        Some(300..400) => Fault::Misdirected,
        Some(_) => Fault::Refused,
        None if mentions(error, &["redirect without LOCATION"]) => Fault::Misdirected,
        // A success whose body reports a failure, as S3 answers to completing a multipart upload.
        None if mentions(error, &AGAIN) => Fault::Transient,
        None => Fault::Refused,
    }
}

fn classify_io(error: &io::Error) -> Fault {
    use io::ErrorKind as K;
    match error.kind() {
        K::NotFound | K::NotADirectory => Fault::NotFound,
        K::AlreadyExists => Fault::AlreadyExists,
        K::PermissionDenied | K::ReadOnlyFilesystem => Fault::Denied,
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Fault::NoSpace,
        K::Interrupted | K::TimedOut | K::WouldBlock | K::StaleNetworkFileHandle | K::ResourceBusy => {
            Fault::Transient
        }
        // Memory, file descriptors, a disk that fails: another attempt on a local disk hides it at best.
        _ => Fault::Refused,
    }
}

/// The HTTP status that the store answered, if one is to blame.
fn status(error: &object_store::Error) -> Option<u16> {
    const BEFORE: &str = "non-2xx status code: ";
    causes(error).find_map(|cause| {
        let text = cause.to_string();
        let digits = text.split_once(BEFORE)?.1.get(..3)?.to_owned();
        digits.parse().ok()
    })
}

fn mentions(error: &object_store::Error, words: &[&str]) -> bool {
    // The outermost text holds that of its causes.
    let text = error.to_string();
    words.iter().any(|word| text.contains(word))
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Fault, classify};

    fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: source.into(),
        }
    }

    fn answered(status: &str) -> Fault {
        classify(&generic(format!(
            "Server returned non-2xx status code: {status}: <body/>"
        )))
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        for status in [
            "500 Internal",
            "502 Bad",
            "503 SlowDown",
            "504 Gateway",
            "429 Many",
            "408 Timeout",
        ] {
            assert_eq!(answered(status), Fault::Transient, "{status}");
        }
        for status in ["400 Bad Request", "411 Length", "412 Precondition", "416 Range"] {
            assert_eq!(answered(status), Fault::Refused, "{status}");
        }
        assert_eq!(answered("301 Moved"), Fault::Misdirected);
        assert_eq!(answered("403 Forbidden"), Fault::Denied);
        assert_eq!(answered("404 NoSuchKey"), Fault::NotFound);
        assert_eq!(answered("404 NoSuchBucket"), Fault::NoBucket);
        assert_eq!(answered("501 Not Implemented"), Fault::Unsupported);
        assert_eq!(answered("507 XMinioStorageFull"), Fault::NoSpace);
        assert_eq!(answered("400 ExpiredToken"), Fault::Denied);
        assert_eq!(answered("400 RequestTimeout"), Fault::Transient);
        assert_eq!(
            classify(&generic("Server returned error response: InternalError")),
            Fault::Transient
        );
        assert_eq!(classify(&generic("something else")), Fault::Refused);
    }

    #[test]
    fn errors_of_the_file_system_keep_their_meaning() {
        let of = |kind| classify(&generic(io::Error::from(kind)));
        assert_eq!(of(io::ErrorKind::StorageFull), Fault::NoSpace);
        assert_eq!(of(io::ErrorKind::QuotaExceeded), Fault::NoSpace);
        assert_eq!(of(io::ErrorKind::PermissionDenied), Fault::Denied);
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem), Fault::Denied);
        assert_eq!(of(io::ErrorKind::OutOfMemory), Fault::Refused);
    }

    #[test]
    fn missing_credentials_are_not_a_failing_store() {
        let error =
            generic("Error performing PUT http://169.254.169.254/latest/api/token: connection refused");
        assert_eq!(classify(&error), Fault::NoCredentials);
        assert!(Fault::NoCredentials.may_pass());
    }
}
