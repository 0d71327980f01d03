//! Watches: a stream of lines, one event each, fed from the log of a table by its own cursor. There is no queue per
//! watcher: one that is slow reads later, and one that is too slow is told that its version has expired.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::present,
    kinds::Kind,
    object,
    request::Form,
    selector::Selector,
    server::Shared,
    status::Failure,
    store::{Change, Event},
    table,
};

/// Events that are taken from the log at once.
const EVENTS_PER_TURN: usize = 256;

/// What happens to all running watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signal {
    /// Counts up with every signal.
    pub number: u64,
    /// Whether watches are told that their version expired; otherwise they just end.
    pub expired: bool,
}

/// What a watch is of, and how it is to be.
#[derive(Debug)]
pub struct Request {
    /// The kind.
    pub kind: Arc<Kind>,
    /// The namespace, or all.
    pub namespace: Option<String>,
    /// What is selected.
    pub selector: Selector,
    /// The form of objects.
    pub form: Form,
    /// What tables say of their objects.
    pub include: String,
    /// Objects that come first as added, and whether a bookmark says that this was all.
    pub initial: Option<(Vec<Value>, bool)>,
    /// The version after which events are told.
    pub version: u64,
    /// Whether there are bookmarks.
    pub bookmarks: bool,
    /// The time between bookmarks.
    pub bookmark_interval: Duration,
    /// When the watch ends by itself.
    pub timeout: Duration,
    /// Every event comes so much later.
    pub slow: Option<Duration>,
    /// The watch ends after so many events.
    pub close_after: Option<usize>,
}

struct Watch {
    shared: Arc<Shared>,
    request: Request,
    changed: watch::Receiver<u64>,
    signals: watch::Receiver<Signal>,
    pending: VecDeque<Bytes>,
    deadline: Instant,
    next_bookmark: Instant,
    sent: usize,
    heads: bool,
    finished: bool,
}

/// The stream of a watch. It ends at its time, by a signal, or after an error event.
pub fn watch(
    shared: Arc<Shared>,
    mut request: Request,
    changed: watch::Receiver<u64>,
    mut signals: watch::Receiver<Signal>,
) -> impl Stream<Item = Bytes> + Send + 'static {
    signals.mark_unchanged();
    let initial = request.initial.take();
    let now = Instant::now();
    let mut state = Watch {
        shared,
        deadline: now + request.timeout,
        next_bookmark: now + request.bookmark_interval,
        request,
        changed,
        signals,
        pending: VecDeque::new(),
        sent: 0,
        heads: true,
        finished: false,
    };
    if let Some((objects, bookmark)) = initial {
        for entry in objects {
            state.emit("ADDED", &entry);
        }
        if bookmark {
            state.bookmark(true);
        }
    }
    stream::unfold(state, |mut state| async move {
        let line = state.next().await?;
        Some((line, state))
    })
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                if self.request.close_after.is_some_and(|limit| self.sent >= limit) {
                    return None;
                }
                self.sent += 1;
                if let Some(delay) = self.request.slow {
                    tokio::time::sleep(delay).await;
                }
                return Some(line);
            }
            if self.finished || self.request.close_after.is_some_and(|limit| self.sent >= limit) {
                return None;
            }
            self.changed.mark_unchanged();
            if self.take_events() {
                continue;
            }
            let wake = self.deadline.min(if self.request.bookmarks {
                self.next_bookmark
            } else {
                self.deadline
            });
            tokio::select! {
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                signalled = self.signals.changed() => {
                    let signal = *self.signals.borrow_and_update();
                    if signalled.is_err() || !signal.expired {
                        return None;
                    }
                    let failure = Failure::expired("The resourceVersion for the provided watch is too old.");
                    self.push("ERROR", &failure.to_status());
                    self.finished = true;
                }
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.deadline {
                        self.finished = true;
                        if self.request.bookmarks {
                            self.bookmark(false);
                        }
                    } else {
                        self.next_bookmark = Instant::now() + self.request.bookmark_interval;
                        self.bookmark(false);
                    }
                }
            }
        }
    }

    /// Takes events from the log; false if there were none.
    fn take_events(&mut self) -> bool {
        let (events, present) = {
            let cluster = self.shared.cluster.lock();
            let events =
                cluster
                    .store
                    .events(&self.request.kind.table, self.request.version, EVENTS_PER_TURN);
            (events, cluster.store.version())
        };
        let Some(events) = events else {
            let message = format!("too old resource version: {} ({present})", self.request.version);
            self.push("ERROR", &Failure::expired(message).to_status());
            self.finished = true;
            return true;
        };
        if events.len() < EVENTS_PER_TURN {
            self.request.version = self.request.version.max(present);
        } else if let Some(last) = events.last() {
            self.request.version = last.version;
        }
        let any = !events.is_empty();
        for event in events {
            self.tell(&event);
        }
        any
    }

    fn tell(&mut self, event: &Event) {
        if self
            .request
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != event.key.0)
        {
            return;
        }
        let kind = Arc::clone(&self.request.kind);
        let after = present(&kind, &event.object);
        if self.request.selector.is_everything() {
            let name = match event.change {
                Change::Added => "ADDED",
                Change::Modified => "MODIFIED",
                Change::Deleted => "DELETED",
            };
            self.emit(name, &after);
            return;
        }
        let before = event.previous.as_ref().map(|previous| present(&kind, previous));
        let was = before
            .as_ref()
            .is_some_and(|before| self.request.selector.matches(before));
        let is = event.change != Change::Deleted && self.request.selector.matches(&after);
        match (was, is) {
            (false, true) => self.emit("ADDED", &after),
            (true, true) => self.emit("MODIFIED", &after),
            (true, false) => {
                // What left the selection is told as it was, under the version at which it left.
                let mut last = before.unwrap_or_default();
                object::metadata_mut(&mut last)
                    .insert("resourceVersion".to_owned(), json!(event.version.to_string()));
                self.emit("DELETED", &last);
            }
            (false, false) => {}
        }
    }

    fn emit(&mut self, name: &str, entry: &Value) {
        let shown = match self.request.form {
            Form::Object => entry.clone(),
            Form::Metadata => table::partial(entry),
            Form::Table => {
                let now = self.shared.clock.now();
                let metadata = json!({"resourceVersion": entry["metadata"]["resourceVersion"]});
                let list = std::slice::from_ref(entry);
                let mut table = table::table(&self.request.kind, list, metadata, &self.request.include, now);
                if !std::mem::take(&mut self.heads) {
                    table["columnDefinitions"] = Value::Null;
                }
                table
            }
        };
        self.push(name, &shown);
    }

    fn push(&mut self, name: &str, entry: &Value) {
        let mut line = json!({"type": name, "object": entry}).to_string();
        line.push('\n');
        self.pending.push_back(Bytes::from(line));
    }

    fn bookmark(&mut self, initial: bool) {
        let version = self.request.version.to_string();
        let mut metadata = json!({"resourceVersion": version});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (api_version, kind) = match self.request.form {
            Form::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadata"),
            Form::Object | Form::Table => (self.request.kind.api.as_str(), self.request.kind.kind.as_str()),
        };
        let entry = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        self.push("BOOKMARK", &entry);
    }
}
