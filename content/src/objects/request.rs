//! One request, tried until it succeeds, fails for good or has used up its attempts.
//!
//! The client's own retries are switched off. They would multiply with these, send a request again without renewing
//! credentials or signature, ignore the limit of requests in flight while they wait, time only single attempts, and
//! draw from a generator that no test controls. There is one policy, here, for every store.
//!
//! An attempt holds a place among the requests in flight; a pause between attempts holds none.

use std::future::Future;
use std::time::Duration;

use super::Objects;
use super::classify::{Fault, classify};
use super::error::{Cause, Context, ObjectError, Operation};

/// Why one attempt failed.
pub(super) enum AttemptError {
    /// The client's error.
    Store(object_store::Error),
    /// A body of another length than it must have: a connection may have broken.
    Short { expected: u64, found: u64 },
    /// Somebody else holds what is needed for a moment.
    Busy(&'static str),
    /// Nothing was sent, as what it is part of has failed.
    Abandoned(&'static str),
}

impl From<object_store::Error> for AttemptError {
    fn from(error: object_store::Error) -> Self {
        AttemptError::Store(error)
    }
}

/// Why a request failed in the end.
pub(super) enum Failure {
    /// The store's answer, or the last of its failures.
    Fault {
        fault: Fault,
        attempts: u32,
        source: Cause,
    },
    /// The last attempt took too long.
    Timeout { attempts: u32 },
    /// Every attempt gave a body of a wrong length.
    Short { expected: u64, found: u64 },
}

impl Failure {
    /// The directory of a `file://` store is not there any more.
    pub(super) fn directory_gone(attempts: u32) -> Self {
        Failure::Fault {
            fault: Fault::NoBucket,
            attempts,
            source: "the directory is gone".into(),
        }
    }

    pub(super) fn is(&self, wanted: Fault) -> bool {
        matches!(self, Failure::Fault { fault, .. } if *fault == wanted)
    }
}

impl Objects {
    /// Sends a request until it succeeds or need not be sent again. `attempt` is given the number of attempts that
    /// went before; when it is not 0, an earlier attempt may have taken effect although it failed.
    pub(super) async fn request<T, F>(&self, attempt: impl Fn(u32) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let options = &self.inner.options;
        let mut before = 0;
        loop {
            let outcome = {
                // The semaphore is never closed; if it were, going on without a place would be right.
                let _place = self.inner.in_flight.acquire().await.ok();
                tokio::time::timeout(options.request_timeout, attempt(before)).await
            };
            let attempts = before + 1;
            let failure = match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(AttemptError::Store(error))) => {
                    let fault = classify(&error);
                    let failure = Failure::Fault {
                        fault,
                        attempts,
                        source: Box::new(error),
                    };
                    if !fault.may_pass() {
                        return Err(failure);
                    }
                    failure
                }
                Ok(Err(AttemptError::Busy(what))) => Failure::Fault {
                    fault: Fault::Transient,
                    attempts,
                    source: what.into(),
                },
                Ok(Err(AttemptError::Abandoned(why))) => {
                    return Err(Failure::Fault {
                        fault: Fault::Refused,
                        attempts,
                        source: why.into(),
                    });
                }
                Ok(Err(AttemptError::Short { expected, found })) => Failure::Short { expected, found },
                Err(_elapsed) => Failure::Timeout { attempts },
            };
            if attempts >= options.attempts_max {
                return Err(failure);
            }
            tokio::time::sleep(self.pause(before)).await;
            before = attempts;
        }
    }

    /// Exponential back-off with full jitter: evenly from zero to a bound that doubles with each attempt, so that many
    /// clients of a store that was down do not come back in step (Brooker, "Exponential Backoff and Jitter", 2015).
    pub(super) fn pause(&self, before: u32) -> Duration {
        let options = &self.inner.options;
        let bound = options
            .backoff_start
            .saturating_mul(2_u32.saturating_pow(before))
            .min(options.backoff_max);
        let mut random = [0; 4];
        self.inner.randomness.fill(&mut random);
        bound.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
    }

    pub(super) fn context(&self, operation: Operation, object: impl ToString) -> Box<Context> {
        Box::new(Context {
            store: self.inner.url.to_string(),
            object: object.to_string(),
            operation,
        })
    }

    /// The error for the caller.
    pub(super) fn error(&self, operation: Operation, object: impl ToString, failure: Failure) -> ObjectError {
        let at = self.context(operation, object);
        let (fault, attempts, source) = match failure {
            Failure::Fault {
                fault,
                attempts,
                source,
            } => (fault, attempts, source),
            Failure::Timeout { attempts } => {
                return ObjectError::Timeout {
                    at,
                    attempts,
                    timeout: self.inner.options.request_timeout,
                };
            }
            Failure::Short { expected, found } => return ObjectError::Short { at, expected, found },
        };
        match fault {
            Fault::NotFound if self.inner.backend.root_is_gone() => ObjectError::NoBucket { at, source },
            Fault::NotFound => ObjectError::NotFound { at, source },
            Fault::NoBucket => ObjectError::NoBucket { at, source },
            Fault::AlreadyExists => ObjectError::AlreadyExists { at, source },
            Fault::Changed => ObjectError::Changed { at, source },
            Fault::Denied | Fault::NoCredentials => ObjectError::Denied { at, source },
            Fault::NoSpace => ObjectError::NoSpace { at, source },
            Fault::Transient => ObjectError::Unavailable { at, attempts, source },
            Fault::Misdirected => {
                let reason = "the store sends its client elsewhere; check the region and the endpoint";
                ObjectError::Invalid {
                    at,
                    reason: format!("{reason} ({source})"),
                    source: Some(source),
                }
            }
            Fault::Unsupported => ObjectError::Invalid {
                at,
                reason: format!("the store does not support this ({source})"),
                source: Some(source),
            },
            Fault::Refused => ObjectError::Invalid {
                at,
                reason: format!("the request was refused ({source})"),
                source: Some(source),
            },
        }
    }
}
