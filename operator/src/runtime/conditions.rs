//! Conditions by the API conventions: a map by type, the time of the last change of status, the generation that was looked at. Pure.
//!
//! Who decides says what holds now ([`Conditions::set`]); what was not said keeps what it was. [`transitions`] tells what changed, for events.

use cairn_types::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::clock;

/// Longest message in bytes; longer ones are cut. The schema allows more, but a status must stay readable.
pub const MESSAGE_BYTES_MAX: usize = 2048;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell now.
    Unknown,
}

impl Holds {
    /// As it stands in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Holds::True => "True",
            Holds::False => "False",
            Holds::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        match holds {
            true => Holds::True,
            false => Holds::False,
        }
    }
}

/// Conditions that are being decided.
#[derive(Debug, Clone)]
pub struct Conditions {
    list: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl Conditions {
    /// Starts from what an object has. `generation` is the one that is looked at.
    pub fn new(old: &[Condition], generation: i64, now: Timestamp) -> Self {
        Conditions {
            list: old.to_vec(),
            generation,
            now,
        }
    }

    /// Says what holds. The time changes only with the status.
    pub fn set(&mut self, type_: &str, holds: impl Into<Holds>, reason: &str, message: impl Into<String>) {
        let status = holds.into().as_str();
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(self.generation),
            last_transition_time: clock::time(self.now),
        };
        match self.list.iter_mut().find(|found| found.type_ == type_) {
            Some(found) => {
                let since = match found.status == status {
                    true => found.last_transition_time.clone(),
                    false => condition.last_transition_time.clone(),
                };
                *found = Condition {
                    last_transition_time: since,
                    ..condition
                };
            }
            None => self.list.push(condition),
        }
    }

    /// Takes a condition away that means nothing for the object any more.
    pub fn remove(&mut self, type_: &str) {
        self.list.retain(|condition| condition.type_ != type_);
    }

    /// What is said of a type.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.list.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether a type is True.
    pub fn is_true(&self, type_: &str) -> bool {
        self.get(type_)
            .is_some_and(|condition| condition.status == "True")
    }

    /// The list, `Ready` first, the others by name.
    pub fn finish(mut self) -> Vec<Condition> {
        self.list
            .sort_by(|a, b| (a.type_ != "Ready", &a.type_).cmp(&(b.type_ != "Ready", &b.type_)));
        self.list
    }
}

/// A condition whose status or reason has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Which.
    pub type_: String,
    /// The status now.
    pub status: String,
    /// The reason now.
    pub reason: String,
    /// The message now.
    pub message: String,
    /// Whether people should look at it.
    pub is_warning: bool,
}

/// What changed between two lists that is worth an event: not the first word on a condition, unless it is a warning or the end of something.
pub fn transitions(old: &[Condition], new: &[Condition]) -> Vec<Transition> {
    let mut found: Vec<Transition> = Vec::new();
    for condition in new {
        let before = old.iter().find(|before| before.type_ == condition.type_);
        let is_same = before
            .is_some_and(|before| before.status == condition.status && before.reason == condition.reason);
        // Of these two, True is the bad or the unfinished one.
        let is_reverse = matches!(
            condition.type_.as_str(),
            "Degraded" | "Progressing" | "DiskPressure" | "VersionSkew"
        );
        let is_bad = match condition.type_.as_str() {
            "Progressing" => false,
            _ if is_reverse => condition.status == "True",
            _ => condition.status == "False",
        };
        let is_waiting = condition.status == "Unknown"
            || matches!(condition.type_.as_str(), "Progressing")
            || (before.is_none() && !is_bad && condition.type_ != "Ready");
        if is_same || is_waiting || (before.is_none() && is_reverse && !is_bad) {
            continue;
        }
        // The same news under several types is told once.
        if found
            .iter()
            .any(|told| told.reason == condition.reason && told.message == condition.message)
        {
            continue;
        }
        found.push(Transition {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            is_warning: is_bad,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;

    use super::{Conditions, Holds, MESSAGE_BYTES_MAX, transitions};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 0)
    }

    #[test]
    fn the_time_changes_with_the_status_only() {
        let mut first = Conditions::new(&[], 1, at(10));
        first.set("Ready", Holds::Unknown, "Waiting", "w");
        first.set("Placed", true, "Placed", "on a");
        let first = first.finish();
        let mut second = Conditions::new(&first, 2, at(20));
        second.set("Ready", Holds::Unknown, "StillWaiting", "w2");
        second.set("Placed", false, "NoNode", "none");
        let second = second.finish();
        assert_eq!(second[0].type_, "Ready");
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(second[0].reason, "StillWaiting");
        assert_eq!(second[0].observed_generation, Some(2));
        assert_ne!(second[1].last_transition_time, first[1].last_transition_time);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let mut conditions = Conditions::new(&[], 1, at(0));
        conditions.set("Ready", false, "X", "\u{e9}".repeat(MESSAGE_BYTES_MAX));
        let list = conditions.finish();
        assert_eq!(list[0].message.len(), MESSAGE_BYTES_MAX);
    }

    #[test]
    fn only_transitions_are_events() {
        let mut first = Conditions::new(&[], 1, at(0));
        first.set("Ready", Holds::Unknown, "Waiting", "w");
        first.set("Placed", true, "Placed", "p");
        first.set("Degraded", false, "AsExpected", "");
        let first = first.finish();
        assert_eq!(transitions(&[], &first), []);
        assert_eq!(transitions(&first, &first), []);
        let mut second = Conditions::new(&first, 1, at(1));
        second.set("Ready", true, "Ready", "served");
        second.set("Degraded", true, "Slow", "s");
        second.set("Exported", false, "Ready", "served");
        let second = second.finish();
        let found: Vec<(String, bool)> = transitions(&first, &second)
            .into_iter()
            .map(|found| (found.reason, found.is_warning))
            .collect();
        assert_eq!(found, [("Ready".to_owned(), false), ("Slow".to_owned(), true)]);
        // A new message alone is no transition.
        let mut third = Conditions::new(&second, 1, at(2));
        third.set("Degraded", true, "Slow", "slower");
        assert_eq!(transitions(&second, &third.finish()), []);
    }
}
