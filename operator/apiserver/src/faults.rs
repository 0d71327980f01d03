//! Faults on purpose: which requests go wrong, how, and how often. And the counting of requests.

use std::{collections::BTreeMap, time::Duration};

use crate::request::{Target, User, Verb};

/// Which requests. Empty fields and `None` match everything.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// The verb.
    pub verb: Option<Verb>,
    /// Only verbs that write.
    pub writes: bool,
    /// The API group; `None` for any, since the core has the empty name.
    pub group: Option<String>,
    /// The plural.
    pub resource: String,
    /// The subresource; `None` for any, the empty text for the object itself.
    pub subresource: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The name of the user.
    pub user: String,
}

impl Matcher {
    /// Requests for a resource.
    pub fn resource(plural: &str) -> Self {
        Self {
            resource: plural.to_owned(),
            ..Self::default()
        }
    }

    /// Requests with a verb for a resource.
    pub fn verb(verb: Verb, plural: &str) -> Self {
        Self {
            verb: Some(verb),
            ..Self::resource(plural)
        }
    }

    /// All requests that write.
    pub fn writes() -> Self {
        Self {
            writes: true,
            ..Self::default()
        }
    }

    fn matches(&self, target: &Target, user: &User) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        self.verb.is_none_or(|verb| verb == target.verb)
            && (!self.writes || target.verb.is_write())
            && self.group.as_ref().is_none_or(|group| *group == target.group)
            && fits(&self.resource, &target.resource)
            && self
                .subresource
                .as_ref()
                .is_none_or(|subresource| *subresource == target.subresource)
            && fits(&self.namespace, &target.namespace)
            && fits(&self.name, &target.name)
            && fits(&self.user, &user.name)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 429 with `Retry-After`, in seconds; nothing is done.
    TooManyRequests(u32),
    /// This code (500 or more); nothing is done.
    ErrorBefore(u16),
    /// This code, although the request was carried out.
    ErrorAfter(u16),
    /// The connection breaks; nothing is done.
    DropBefore,
    /// The connection breaks, although the request was carried out.
    DropAfter,
    /// The answer comes later.
    Delay(Duration),
    /// Every event of a watch comes later.
    SlowWatch(Duration),
    /// A watch ends after so many events.
    CloseWatch(usize),
    /// A list without a version, or with version 0, is as of this version, if the log reaches back so far.
    StaleList(u64),
}

#[derive(Debug, Clone)]
struct Planned {
    matcher: Matcher,
    fault: Fault,
    skip: u64,
    left: Option<u64>,
}

/// All faults that are planned.
#[derive(Debug, Clone, Default)]
pub struct Plan(Vec<Planned>);

impl Plan {
    /// Adds a fault for `times` matching requests (`None`: for all), after `skip` of them went well.
    pub fn add(&mut self, matcher: Matcher, fault: Fault, skip: u64, times: Option<u64>) {
        self.0.push(Planned {
            matcher,
            fault,
            skip,
            left: times,
        });
    }

    /// Takes all faults back.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The first fault for this request, if any; it counts as happened.
    pub fn take(&mut self, target: &Target, user: &User) -> Option<Fault> {
        let planned = self
            .0
            .iter_mut()
            .find(|planned| planned.left != Some(0) && planned.matcher.matches(target, user))?;
        if planned.skip > 0 {
            planned.skip -= 1;
            return None;
        }
        if let Some(left) = &mut planned.left {
            *left -= 1;
        }
        Some(planned.fault.clone())
    }
}

/// What a request was, for counting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// The user's name.
    pub user: String,
    /// The verb.
    pub verb: Verb,
    /// Plural, group and subresource, as `workspaces.jvs.io/status`.
    pub resource: String,
}

/// How many requests there were.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// All requests for resources.
    pub requests: BTreeMap<Counted, u64>,
    /// Those of them that changed what is stored.
    pub changes: BTreeMap<Counted, u64>,
    /// Codes of answers.
    pub codes: BTreeMap<u16, u64>,
}

impl Counters {
    /// Requests that write, whether or not they changed anything.
    pub fn writes(&self) -> u64 {
        self.requests
            .iter()
            .filter(|(counted, _)| counted.verb.is_write())
            .map(|(_, count)| count)
            .sum()
    }

    /// Requests that changed what is stored.
    pub fn changes(&self) -> u64 {
        self.changes.values().sum()
    }

    /// Requests with this verb for this resource, by anybody.
    pub fn of(&self, verb: Verb, resource: &str) -> u64 {
        self.requests
            .iter()
            .filter(|(counted, _)| counted.verb == verb && counted.resource == resource)
            .map(|(_, count)| count)
            .sum()
    }
}
