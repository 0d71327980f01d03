//! The machinery of `kube` on the server of this crate: watchers of both kinds, finalizers, events.

use std::{pin::Pin, sync::Arc};

use cairn_apiserver::User;
use futures_util::{Stream, StreamExt};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind},
    runtime::{
        controller::Action,
        events::{self, EventType, Recorder, Reporter},
        finalizer::{Event as Finalizer, finalizer},
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;

use crate::backend::{Backend, MERGE, PATIENCE};

fn widgets(backend: &Backend) -> (Client, Api<DynamicObject>) {
    let client = Client::new(backend.server.clone().unwrap().service(User::admin()), "rules");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("rules.cairn.dev", "v1", "Widget"));
    (client.clone(), Api::namespaced_with(client, "rules", &resource))
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<DynamicObject>>>>>;

/// The next event that is no error: a watcher begins again by itself.
async fn next(events: &mut Events) -> Event<DynamicObject> {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next())
            .await
            .expect("an event in time")
            .expect("a watcher goes on for ever");
        if let Ok(event) = event {
            return event;
        }
    }
}

/// The names of a whole listing.
async fn listing(events: &mut Events) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        match next(events).await {
            Event::Init => names.clear(),
            Event::InitApply(object) => names.push(object.name_any()),
            Event::InitDone => return names,
            Event::Apply(_) | Event::Delete(_) => {}
        }
    }
}

/// Watchers list and follow, and begin again when their version has expired.
#[tokio::test]
async fn watchers_list_follow_and_begin_again() {
    for streaming in [false, true] {
        let backend = Backend::fake().await;
        let server = backend.server.clone().unwrap();
        let (_, api) = widgets(&backend);
        backend.widget("a", json!({"size": 1})).await;
        let config = watcher::Config::default();
        let config = if streaming {
            config.streaming_lists()
        } else {
            config.page_size(1)
        };
        let mut events: Events = Box::pin(watcher(api, config));
        assert_eq!(listing(&mut events).await, ["a"]);
        backend.widget("b", json!({"size": 1})).await;
        match next(&mut events).await {
            Event::Apply(object) => assert_eq!(object.name_any(), "b"),
            other => panic!("{other:?}"),
        }
        server.disconnect_watches();
        backend.delete(&backend.widgets("/a")).await.ok();
        match next(&mut events).await {
            Event::Delete(object) => assert_eq!(object.name_any(), "a"),
            other => panic!("{other:?}"),
        }
        server.expire_watches();
        assert_eq!(listing(&mut events).await, ["b"]);
    }
}

/// Finalizers of `kube` are put on and taken off.
#[tokio::test]
async fn finalizers_are_put_on_and_taken_off() {
    const NAME: &str = "rules.cairn.dev/hold";
    let backend = Backend::fake().await;
    let (_, api) = widgets(&backend);
    backend.widget("a", json!({"size": 1})).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let object = Arc::new(api.get("a").await.unwrap());
        finalizer(&api, NAME, object, |event| {
            seen.push(matches!(event, Finalizer::Cleanup(_)));
            std::future::ready(Ok::<_, std::io::Error>(Action::await_change()))
        })
        .await
        .unwrap();
    }
    assert_eq!(api.get("a").await.unwrap().finalizers(), [NAME]);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let object = Arc::new(api.get("a").await.unwrap());
    finalizer(&api, NAME, object, |event| {
        seen.push(matches!(event, Finalizer::Cleanup(_)));
        std::future::ready(Ok::<_, std::io::Error>(Action::await_change()))
    })
    .await
    .unwrap();
    assert_eq!(seen, [false, true]);
    assert!(api.get_opt("a").await.unwrap().is_none());
}

/// Events of `kube` are published, and repeated ones are folded into a series.
#[tokio::test]
async fn events_are_published_and_folded() {
    let backend = Backend::fake().await;
    let server = backend.server.clone().unwrap();
    let (client, api) = widgets(&backend);
    backend.widget("a", json!({"size": 1})).await;
    let reference = api.get("a").await.unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("rules.cairn.dev", "v1", "Widget"));
    let reference = kube::Resource::object_ref(&reference, &resource);
    let reporter = Reporter {
        controller: "tester".to_owned(),
        instance: Some("one".to_owned()),
    };
    let recorder = Recorder::new(client, reporter);
    let event = events::Event {
        type_: EventType::Warning,
        reason: "Broken".to_owned(),
        note: Some("it does not work".to_owned()),
        action: "Trying".to_owned(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&event, &reference).await.unwrap();
    }
    let stored = server.list("v1", "Event", Some("rules"));
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0]["message"], "it does not work");
    assert_eq!(stored[0]["involvedObject"]["name"], "a");
    assert_eq!(stored[0]["series"]["count"], 3);
    let patched = backend
        .patch(&backend.widgets("/a"), MERGE, &json!({"spec": {"size": 2}}))
        .await
        .ok();
    assert_eq!(patched["spec"]["size"], 2);
}
