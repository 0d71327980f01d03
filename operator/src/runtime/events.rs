//! Events: what `kubectl describe` shows of an object's history. Only transitions are told, each once, also when the operator crashes and decides the
//! same again: an event's name follows from what it tells.
//!
//! An event that cannot be written is lost, and the log says so: no reconciliation fails for that.

use cairn_types::{Timestamp, hexadecimal};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::Resource;

use super::api::ApiClient;
use super::cache;
use super::clock;
use super::conditions::{Transition, transitions};

/// Longest note of an event in bytes (events.k8s.io/v1: 1 kB).
const NOTE_BYTES_MAX: usize = 1024;
/// Most events of one reconciliation; the first ones are told.
const EVENTS_MAX: usize = 8;

/// Tells events as one process.
#[derive(Debug, Clone)]
pub struct Recorder {
    api: ApiClient,
    controller: String,
    instance: String,
}

impl Recorder {
    /// Tells as the controller `cairn-operator` and the instance (pod) of this name.
    pub fn new(api: ApiClient, instance: &str) -> Self {
        Recorder {
            api,
            controller: cairn_crds::names::MANAGER.to_owned(),
            instance: instance.chars().take(128).collect(),
        }
    }

    /// Tells what changed between two lists of conditions of an object.
    pub async fn conditions<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        old: &[Condition],
        new: &[Condition],
        now: Timestamp,
    ) {
        for transition in transitions(old, new).into_iter().take(EVENTS_MAX) {
            self.tell(object, &transition, now).await;
        }
    }

    /// Tells one thing that happened to an object.
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, news: &Transition, now: Timestamp) {
        let event = self.event(object, news, now);
        if let Err(error) = self.api.create(None, &event).await {
            tracing::warn!(reason = news.reason, error = error.chain(), "an event was lost");
        }
    }

    fn event<K: Resource<DynamicType = ()>>(&self, object: &K, news: &Transition, now: Timestamp) -> Event {
        let mut reference = object.object_ref(&());
        reference.resource_version = None;
        // The same news within an hour is the same event.
        let hour = now.seconds().div_euclid(3600);
        let told = format!(
            "{}/{}/{}/{}/{}/{hour}",
            cache::uid(object),
            news.type_,
            news.status,
            news.reason,
            news.message
        );
        let hash = blake3::hash(told.as_bytes());
        let suffix = hexadecimal::text(&hash.as_bytes()[..8]);
        let mut name = reference.name.clone().unwrap_or_default();
        name.truncate(name.floor_char_boundary(200));
        let mut note = news.message.clone();
        note.truncate(note.floor_char_boundary(NOTE_BYTES_MAX));
        let namespace = reference.namespace.clone();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{suffix}")),
                namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            action: Some(news.type_.clone()),
            reason: Some(news.reason.clone()),
            note: Some(note),
            type_: Some(if news.is_warning { "Warning" } else { "Normal" }.to_owned()),
            event_time: Some(clock::micro_time(now)),
            regarding: Some(reference),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}
