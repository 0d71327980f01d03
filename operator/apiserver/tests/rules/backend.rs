//! What the rules are held against: the server of this crate, in this process, or a real one over TLS. Rules speak HTTP
//! and JSON, so that what they see is what any client sees.

use std::{sync::Arc, time::Duration};

use cairn_apiserver::{ApiServer, Settings, User, clock::WallClock};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

/// The longest that anything may take before a rule fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster to hold a rule against, with a namespace of its own.
#[derive(Clone)]
pub struct Backend {
    client: kube::Client,
    /// The server behind it, if it is the one of this crate.
    pub server: Option<ApiServer>,
    /// A namespace that nobody else uses.
    pub namespace: String,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP code.
    pub code: u16,
    /// The body.
    pub body: Value,
    /// The headers.
    pub headers: HeaderMap,
}

impl Reply {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{}: {}", self.code, self.body);
        self.body
    }

    /// The body of a failure with this code and reason.
    #[track_caller]
    pub fn refused(self, code: u16, reason: &str) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        assert_eq!(self.body["kind"], "Status", "{}", self.body);
        assert_eq!(self.body["status"], "Failure", "{}", self.body);
        assert_eq!(
            self.body["reason"].as_str().unwrap_or_default(),
            reason,
            "{}",
            self.body
        );
        self.body
    }
}

pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// The definition that most rules use: something of everything.
const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.rules.cairn.dev}
spec:
  group: rules.cairn.dev
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wdg], categories: [storage]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    selectableFields: [{jsonPath: .spec.colour}]
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Colour, type: string, jsonPath: .spec.colour, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [size]
            x-kubernetes-validations:
            - {rule: self.size <= 100, message: at most 100}
            - {rule: '!has(self.fixed) || !has(oldSelf.fixed) || self.fixed == oldSelf.fixed', message: fixed is immutable}
            properties:
              size: {type: integer, minimum: 1}
              fixed: {type: string}
              colour: {type: string, enum: [red, green], default: red}
              name: {type: string, pattern: '^[a-z]+$', maxLength: 5}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, count: {type: integer}}
              tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              steps: {type: array, maxItems: 3, items: {type: string}}
              labels: {type: object, additionalProperties: {type: string}}
              port: {x-kubernetes-int-or-string: true}
              when: {type: string, format: date-time}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              nested:
                type: object
                default: {}
                properties: {depth: {type: integer, default: 3}}
          status:
            type: object
            properties:
              phase: {type: string}
              observedGeneration: {type: integer}
              conditions:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items:
                  type: object
                  required: [type]
                  properties: {type: {type: string}, status: {type: string}}
"#;

/// The definition as an object.
pub fn definition() -> Value {
    serde_saphyr::from_str(DEFINITION).unwrap()
}

impl Backend {
    /// The server of this crate, new and empty but for the definition.
    pub async fn fake() -> Self {
        Self::of(ApiServer::new(Settings {
            clock: Arc::new(WallClock),
            ..Settings::default()
        }))
        .await
    }

    /// A server of this crate as the test wants it, with the definition.
    pub async fn of(server: ApiServer) -> Self {
        let client = kube::Client::new(server.service(User::admin()), "default");
        let backend = Self {
            client,
            server: Some(server),
            namespace: "rules".to_owned(),
        };
        backend.prepare().await;
        backend
    }

    /// A real server, reached through `client`; the rule gets the namespace `namespace`.
    pub async fn real(client: kube::Client, namespace: &str) -> Self {
        let backend = Self {
            client,
            server: None,
            namespace: namespace.to_owned(),
        };
        backend.prepare().await;
        backend
    }

    async fn prepare(&self) {
        let made = self
            .post(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                &definition(),
            )
            .await;
        assert!(matches!(made.code, 201 | 409), "{}", made.body);
        self.post(
            "/api/v1/namespaces",
            &json!({"metadata": {"name": self.namespace}}),
        )
        .await
        .ok();
        self.served("/apis/rules.cairn.dev/v1/widgets").await;
    }

    /// Waits until a path is served: a real server takes a moment after a definition is made.
    pub async fn served(&self, path: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.get(path).await.code != 200 {
            assert!(tokio::time::Instant::now() < deadline, "{path} is not served");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Another user of the same server; only of the server of this crate.
    pub fn as_user(&self, user: User) -> Self {
        let server = self.server.clone().unwrap();
        Self {
            client: kube::Client::new(server.service(user), "default"),
            server: Some(server),
            namespace: self.namespace.clone(),
        }
    }

    /// The path of widgets, or of one of them.
    pub fn widgets(&self, rest: &str) -> String {
        format!(
            "/apis/rules.cairn.dev/v1/namespaces/{}/widgets{rest}",
            self.namespace
        )
    }

    /// The path of something in the namespace, as `/api/v1` and `configmaps/x`.
    pub fn path(&self, api: &str, rest: &str) -> String {
        format!("{api}/namespaces/{}/{rest}", self.namespace)
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.client.send(request))
            .await
            .expect("an answer in time")
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Reply {
            code: parts.status.as_u16(),
            body,
            headers: parts.headers,
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Reply {
        self.send(Method::GET, path, &[("accept", accept)], Vec::new())
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let agent = [("content-type", JSON), ("user-agent", "tester/1.0")];
        self.send(Method::POST, path, &agent, body.to_string().into_bytes())
            .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        let agent = [("content-type", JSON), ("user-agent", "tester/1.0")];
        self.send(Method::PUT, path, &agent, body.to_string().into_bytes())
            .await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Reply {
        let agent = [("content-type", kind), ("user-agent", "tester/1.0")];
        self.send(Method::PATCH, path, &agent, body.to_string().into_bytes())
            .await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, &[], Vec::new()).await
    }

    pub async fn delete_with(&self, path: &str, options: &Value) -> Reply {
        let kind = [("content-type", JSON)];
        self.send(Method::DELETE, path, &kind, options.to_string().into_bytes())
            .await
    }

    /// Makes a widget with this spec.
    pub async fn widget(&self, name: &str, spec: Value) -> Value {
        self.post(&self.widgets(""), &widget(name, spec)).await.ok()
    }

    /// Applies a widget as `manager`.
    pub async fn apply(&self, manager: &str, name: &str, spec: Value) -> Reply {
        let path = self.widgets(&format!("/{name}?fieldManager={manager}"));
        self.patch(&path, APPLY, &widget(name, spec)).await
    }

    /// Begins a watch.
    pub async fn watch(&self, path: &str) -> Lines {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = tokio::time::timeout(PATIENCE, self.client.send(request))
            .await
            .expect("an answer in time")
            .unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Lines {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}

/// A widget.
pub fn widget(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "rules.cairn.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec,
    })
}

/// The events of a watch.
pub struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    /// The next event, or none when the watch has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("an event in time")?;
            if let Ok(data) = frame.unwrap().into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }

    /// The next event, as its type and object.
    pub async fn event(&mut self) -> (String, Value) {
        let event = self.next().await.expect("the watch goes on");
        (
            event["type"].as_str().unwrap().to_owned(),
            event["object"].clone(),
        )
    }

    /// The next events up to a bookmark, as types and names.
    pub async fn until_bookmark(&mut self) -> (Vec<(String, String)>, Value) {
        let mut events = Vec::new();
        loop {
            let (kind, object) = self.event().await;
            if kind == "BOOKMARK" {
                return (events, object);
            }
            events.push((kind, object["metadata"]["name"].as_str().unwrap().to_owned()));
        }
    }
}

/// The fields of a manager in the object.
#[track_caller]
pub fn owned(object: &Value, manager: &str) -> Value {
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["manager"] == manager)
        .map(|entry| entry["fieldsV1"].clone())
        .unwrap_or_default()
}

/// The version of an object as a number.
#[track_caller]
pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}
