//! Waiting for an object to become what it shall be. What it waits for is told when it changes; a refusal that stays is the end.

use std::time::Duration;

use cairn_crds::conditions::{self, READY};
use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::watcher;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{Cluster, Kind};
use crate::failure::{Exit, Failure};
use crate::output::tell;
use crate::system::Cancellation;

/// A refusal that stays so long is believed: the operator may be about to heal it.
const REFUSAL_STAYS: Duration = Duration::from_secs(15);
/// Time between two attempts to watch.
const AGAIN: Duration = Duration::from_secs(1);

/// What an object says of what is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Done,
    /// Not yet, and why.
    Waits(String),
    /// Not as things stand, and why. It may heal.
    Refused(String),
    /// Never, and why.
    Failed(String),
}

/// Why waiting ended without it.
#[derive(Debug)]
pub enum Ended {
    /// By a signal.
    Cancelled,
    /// It did not come about.
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failed(failure)
    }
}

/// The condition Ready as it was decided from what the object asks for now.
pub fn ready(conditions: &[Condition], generation: Option<i64>) -> Option<&Condition> {
    let ready = conditions::find(conditions, READY)?;
    let is_now = ready
        .observed_generation
        .is_none_or(|seen| seen >= generation.unwrap_or(0));
    is_now.then_some(ready)
}

/// What Ready says.
pub fn verdict(ready: Option<&Condition>) -> Verdict {
    let Some(ready) = ready else {
        return Verdict::Waits("no operator has looked at it yet".to_owned());
    };
    let text = format!("{}: {}", ready.reason, ready.message);
    match ready.status.as_str() {
        "True" => Verdict::Done,
        "False" => Verdict::Refused(text),
        _ => Verdict::Waits(text),
    }
}

/// Waits until `judge` says that it is done, and hands the object out. Errors: a signal came; the time is over; it is refused, or gone; nobody answers.
pub async fn until<K: Kind>(
    cluster: &Cluster,
    name: &str,
    timeout: Duration,
    cancellation: &mut Cancellation,
    judge: impl Fn(&K) -> Verdict,
) -> Result<K, Ended> {
    let kind = K::kind(&());
    let deadline = Instant::now() + timeout;
    let mut stream = Box::pin(watcher::watch_object(cluster.api::<K>(), name));
    let mut told = String::new();
    let mut refused: Option<(String, Instant)> = None;
    loop {
        let believed = refused.as_ref().map(|(_, since)| *since + REFUSAL_STAYS);
        let event = tokio::select! {
            () = cancellation.wait() => return Err(Ended::Cancelled),
            event = stream.next() => event,
            () = sleep_until(believed.unwrap_or(deadline).min(deadline)) => {
                let failure = match refused {
                    Some((why, since)) if Instant::now() >= since + REFUSAL_STAYS => {
                        Failure::told(Exit::NotReady, "NOT_READY", why, remedy(&kind, name))
                    }
                    _ => Failure::told(
                        Exit::TimedOut,
                        "TIMED_OUT",
                        format!("{kind} {name} is not ready after {} s; {told}", timeout.as_secs()),
                        remedy(&kind, name),
                    ),
                };
                return Err(failure.into());
            }
        };
        let object: K = match event {
            Some(Ok(Some(object))) => object,
            Some(Ok(None)) => {
                let failure = Failure::told(
                    Exit::NotFound,
                    "GONE",
                    format!("{kind} {name} is gone: somebody has deleted it"),
                    "",
                );
                return Err(failure.into());
            }
            Some(Err(error)) => {
                if let Some(failure) = refusal(error) {
                    return Err(failure.into());
                }
                // Nobody answers now: the stream begins anew.
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            None => {
                stream = Box::pin(watcher::watch_object(cluster.api::<K>(), name));
                continue;
            }
        };
        let now = match judge(&object) {
            Verdict::Done => return Ok(object),
            Verdict::Failed(why) => {
                let name = object.name_any();
                let failure = Failure::told(Exit::NotReady, "NOT_READY", why, remedy(&kind, &name));
                return Err(failure.into());
            }
            Verdict::Waits(why) => {
                refused = None;
                why
            }
            Verdict::Refused(why) => {
                if refused.as_ref().is_none_or(|(known, _)| *known != why) {
                    refused = Some((why.clone(), Instant::now()));
                }
                why
            }
        };
        if now != told {
            tell(&format!("{kind} {name}: {now}"));
            told = now;
        }
    }
}

fn remedy(kind: &str, name: &str) -> String {
    format!("kubectl cairn explain {}/{name} tells more", kind.to_lowercase())
}

/// What the API server says for good.
fn refusal(error: watcher::Error) -> Option<Failure> {
    let source = match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => source,
        _ => return None,
    };
    let is_final = matches!(&source, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404));
    is_final.then(|| Failure::of("watch it")(source))
}

#[cfg(test)]
mod tests {
    use cairn_crds::conditions::READY;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::{Verdict, ready, verdict};

    fn condition(status: &str, generation: i64) -> Condition {
        Condition {
            type_: READY.to_owned(),
            status: status.to_owned(),
            reason: "Why".to_owned(),
            message: "because".to_owned(),
            observed_generation: Some(generation),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn old_words_do_not_count() {
        let said = [condition("True", 1)];
        assert!(ready(&said, Some(2)).is_none());
        assert_eq!(verdict(ready(&said, Some(1))), Verdict::Done);
        assert!(matches!(verdict(None), Verdict::Waits(_)));
        let refused = verdict(Some(&condition("False", 1)));
        assert_eq!(refused, Verdict::Refused("Why: because".to_owned()));
        assert!(matches!(
            verdict(Some(&condition("Unknown", 1))),
            Verdict::Waits(_)
        ));
    }
}
