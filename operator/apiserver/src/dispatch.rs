//! From a request that may be done to what the cluster does, and from its outcome to an answer.

use std::{sync::Arc, time::Duration};

use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::{
    body::ResponseBody,
    clock,
    cluster::{
        FieldValidation, Outcome, Patch, WriteOptions,
        deletion::{DeleteOptions, Deleted},
    },
    discovery,
    faults::Fault,
    kinds::Kind,
    listing::{self, Listing},
    object, openapi, rbac,
    request::{Form, Query, Target, User, Verb, manager},
    selector::Selector,
    server::Shared,
    service::Call,
    status::{Cause, Failure},
    table, watching,
};

/// An answer that is no failure.
#[derive(Debug)]
pub(crate) struct Answer {
    pub code: StatusCode,
    pub content_type: &'static str,
    pub body: ResponseBody,
    pub warnings: Vec<String>,
    /// Whether anything was stored.
    pub changed: bool,
}

impl Answer {
    fn json(code: StatusCode, value: &Value) -> Self {
        Self {
            code,
            content_type: "application/json",
            body: ResponseBody::full(value.to_string()),
            warnings: Vec::new(),
            changed: false,
        }
    }

    fn text(text: &'static str) -> Self {
        Self {
            code: StatusCode::OK,
            content_type: "text/plain; charset=utf-8",
            body: ResponseBody::full(text),
            warnings: Vec::new(),
            changed: false,
        }
    }
}

/// Answers requests for what is no resource: discovery, OpenAPI, health.
pub(crate) fn path(shared: &Shared, call: &Call) -> Result<Answer, Failure> {
    let parts: Vec<&str> = call.path.split('/').filter(|part| !part.is_empty()).collect();
    let cluster = shared.cluster.lock();
    let kinds = &cluster.kinds;
    let aggregated = call
        .headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("as=APIGroupDiscoveryList"));
    if aggregated && matches!(parts.as_slice(), ["api" | "apis"]) {
        let value = discovery::aggregated(kinds, parts == ["api"]);
        let mut answer = Answer::json(StatusCode::OK, &value);
        answer.content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        return Ok(answer);
    }
    let value = match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => return Ok(Answer::text("ok")),
        ["version"] => Some(discovery::version()),
        ["api"] => Some(discovery::core_versions()),
        ["apis"] => Some(discovery::group_list(kinds)),
        ["api", version] => discovery::resources(kinds, "", version),
        ["apis", group] => discovery::one_group(kinds, group),
        ["apis", group, version] => discovery::resources(kinds, group, version),
        ["openapi", "v3"] => Some(openapi::index(kinds)),
        ["openapi", "v3", "api", version] => openapi::document(kinds, "", version),
        ["openapi", "v3", "apis", group, version] => openapi::document(kinds, group, version),
        _ => None,
    };
    value
        .map(|value| Answer::json(StatusCode::OK, &value))
        .ok_or(Failure::NoSuchPage)
}

/// Answers requests for resources.
pub(crate) fn resource(
    shared: &Arc<Shared>,
    call: &Call,
    target: &Target,
    fault: Option<&Fault>,
) -> Result<Answer, Failure> {
    if target.group == "authorization.k8s.io" {
        return review(shared, call, target);
    }
    let kind = {
        let cluster = shared.cluster.lock();
        let kinds = &cluster.kinds;
        match kinds.get(&target.group, &target.version, &target.resource) {
            Some(kind) => kind,
            None if kinds.has_builtin(&target.group, &target.version) => return Err(Failure::NoSuchPath),
            None => return Err(Failure::NoSuchPage),
        }
    };
    match target.subresource.as_str() {
        "" => {}
        "status" if kind.has_status => {}
        "finalize" if kind.table == "namespaces" => {}
        _ => return Err(Failure::NoSuchPath),
    }
    if kind.namespaced && target.namespace.is_empty() && (target.verb.is_write() || !target.name.is_empty()) {
        return Err(match target.verb {
            Verb::Create => {
                Failure::BadRequest("an empty namespace may not be set during creation".to_owned())
            }
            _ => Failure::MethodNotAllowed,
        });
    }
    let namespace = if kind.namespaced {
        target.namespace.as_str()
    } else {
        ""
    };
    let form = Form::of(&call.headers)?;
    let include = match call.query.get("includeObject") {
        "" => "Metadata",
        include => include,
    };
    let show = |object: &Value| match form {
        Form::Object => object.clone(),
        Form::Metadata => table::partial(object),
        Form::Table => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            table::table(
                &kind,
                std::slice::from_ref(object),
                metadata,
                include,
                shared.clock.now(),
            )
        }
    };
    match target.verb {
        Verb::Get => {
            let wanted = listing::version_of(&call.query)?;
            let cluster = shared.cluster.lock();
            if wanted > cluster.store.version() {
                return Err(listing::too_large(wanted, cluster.store.version()));
            }
            let object = cluster.get(&kind, namespace, &target.name)?;
            Ok(Answer::json(StatusCode::OK, &show(&object)))
        }
        Verb::List => {
            let selector = selector(&call.query, &kind)?;
            let scope = (kind.namespaced && !namespace.is_empty()).then_some(namespace);
            let stale = match fault {
                Some(Fault::StaleList(version)) => Some(*version),
                _ => None,
            };
            let cluster = shared.cluster.lock();
            let listing = listing::list(&cluster, &kind, scope, &selector, &call.query, stale)?;
            drop(cluster);
            Ok(Answer::json(
                StatusCode::OK,
                &list_value(&kind, form, include, &listing, shared),
            ))
        }
        Verb::Watch => watch(shared, call, target, &kind, form, include, fault),
        Verb::Create if !target.name.is_empty() => Err(Failure::MethodNotAllowed),
        Verb::Create => {
            let object = read_body(call, &kind)?;
            let options = options(shared, call)?;
            let outcome = shared.cluster.lock().create(&kind, namespace, object, &options)?;
            Ok(written(outcome, &show))
        }
        Verb::Update => {
            let object = read_body(call, &kind)?;
            let options = options(shared, call)?;
            let outcome = shared.cluster.lock().update(
                &kind,
                namespace,
                &target.name,
                &target.subresource,
                object,
                &options,
            )?;
            Ok(written(outcome, &show))
        }
        Verb::Patch => {
            let patch = read_patch(call, &kind)?;
            let options = options(shared, call)?;
            if matches!(patch, Patch::Apply(..))
                && shared.settings.rbac
                && shared
                    .cluster
                    .lock()
                    .store
                    .get(&kind.table, namespace, &target.name)
                    .is_none()
            {
                // An apply that creates needs the right to create.
                let create = Target {
                    verb: Verb::Create,
                    ..target.clone()
                };
                crate::service::authorise(shared, &call.user, &create)?;
            }
            let outcome = shared.cluster.lock().patch(
                &kind,
                namespace,
                &target.name,
                &target.subresource,
                &patch,
                &options,
            )?;
            Ok(written(outcome, &show))
        }
        Verb::Delete => {
            let how = delete_options(call)?;
            let options = options(shared, call)?;
            let deleted = shared
                .cluster
                .lock()
                .delete(&kind, namespace, &target.name, &how, &options)?;
            let mut answer = match &deleted {
                Deleted::Waiting { object, .. } => Answer::json(StatusCode::OK, &show(object)),
                // Some kinds are answered with what they were.
                Deleted::Gone(last) if returns_the_deleted(&kind) => {
                    Answer::json(StatusCode::OK, &show(last))
                }
                Deleted::Gone(last) => Answer::json(StatusCode::OK, &success(&kind, last)),
            };
            answer.changed = match deleted {
                Deleted::Gone(_) => !options.dry_run,
                Deleted::Waiting { changed, .. } => changed,
            };
            Ok(answer)
        }
        Verb::DeleteCollection => delete_collection(shared, call, &kind, namespace, form, include),
    }
}

fn delete_collection(
    shared: &Shared,
    call: &Call,
    kind: &Kind,
    namespace: &str,
    form: Form,
    include: &str,
) -> Result<Answer, Failure> {
    if kind.table == "namespaces" {
        return Err(Failure::MethodNotAllowed);
    }
    let selector = selector(&call.query, kind)?;
    let how = delete_options(call)?;
    let options = options(shared, call)?;
    let scope = kind.namespaced.then_some(namespace);
    let mut cluster = shared.cluster.lock();
    let listing = listing::list(&cluster, kind, scope, &selector, &call.query, None)?;
    let mut changed = false;
    for entry in &listing.objects {
        match cluster.delete(
            kind,
            object::namespace(entry),
            object::name(entry),
            &how,
            &options,
        ) {
            Ok(Deleted::Gone(_)) => changed = true,
            Ok(Deleted::Waiting { changed: this, .. }) => changed |= this,
            Err(Failure::NotFound { .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    drop(cluster);
    let mut answer = Answer::json(StatusCode::OK, &list_value(kind, form, include, &listing, shared));
    answer.changed = changed && !options.dry_run;
    Ok(answer)
}

/// Whether a deletion is answered with the object instead of a Status.
fn returns_the_deleted(kind: &Kind) -> bool {
    matches!(
        kind.table.as_str(),
        "pods"
            | "services"
            | "persistentvolumes"
            | "persistentvolumeclaims"
            | "serviceaccounts"
            | "storageclasses.storage.k8s.io"
    )
}

fn success(kind: &Kind, last: &Value) -> Value {
    let mut details = json!({"name": object::name(last), "kind": kind.plural, "uid": object::uid(last)});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn written(outcome: Outcome, show: &dyn Fn(&Value) -> Value) -> Answer {
    let code = if outcome.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut answer = Answer::json(code, &show(&outcome.object));
    answer.warnings = outcome
        .dropped
        .iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect();
    answer.changed = outcome.changed;
    answer
}

fn list_value(kind: &Kind, form: Form, include: &str, listing: &Listing, shared: &Shared) -> Value {
    match form {
        Form::Object => json!({
            "kind": kind.list_kind, "apiVersion": kind.api, "metadata": listing.metadata(), "items": listing.objects,
        }),
        Form::Metadata => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": listing.metadata(),
            "items": listing.objects.iter().map(table::partial).collect::<Vec<_>>(),
        }),
        Form::Table => table::table(
            kind,
            &listing.objects,
            listing.metadata(),
            include,
            shared.clock.now(),
        ),
    }
}

fn selector(query: &Query, kind: &Kind) -> Result<Selector, Failure> {
    Selector::parse(query.get("labelSelector"), query.get("fieldSelector"), kind)
}

fn options(shared: &Shared, call: &Call) -> Result<WriteOptions, Failure> {
    let field_validation = match call.query.get("fieldValidation") {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            return Err(Failure::BadRequest(format!(
                "invalid fieldValidation {other}: must be one of Ignore, Warn, Strict"
            )));
        }
    };
    let dry_run = match call.query.get("dryRun") {
        "" => delete_body(call)
            .get("dryRun")
            .is_some_and(|value| *value == json!(["All"])),
        "All" => true,
        other => {
            return Err(Failure::BadRequest(format!(
                "invalid dryRun {other}: must be All"
            )));
        }
    };
    Ok(WriteOptions {
        manager: manager(&call.query, &call.headers),
        dry_run,
        field_validation,
        now: shared.clock.now(),
    })
}

fn delete_body(call: &Call) -> Value {
    if call.method == http::Method::DELETE && !call.body.is_empty() {
        return serde_json::from_slice(&call.body).unwrap_or_default();
    }
    Value::Null
}

fn delete_options(call: &Call) -> Result<DeleteOptions, Failure> {
    DeleteOptions::parse(&delete_body(call), &call.query)
}

fn content_type(call: &Call) -> &str {
    call.headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map_or("application/json", str::trim)
}

fn yaml(call: &Call) -> Result<Value, Failure> {
    let text = std::str::from_utf8(&call.body)
        .map_err(|error| Failure::BadRequest(format!("error decoding YAML: {error}")))?;
    serde_saphyr::from_str(text).map_err(|error| Failure::BadRequest(format!("error decoding YAML: {error}")))
}

fn read_body(call: &Call, kind: &Kind) -> Result<Value, Failure> {
    parse_body(call, &kind.kind)
}

/// Reads JSON or YAML. Protobuf is not understood, and clients are told so.
fn parse_body(call: &Call, kind: &str) -> Result<Value, Failure> {
    match content_type(call) {
        "application/json" | "" => serde_json::from_slice(&call.body).map_err(|error| {
            Failure::BadRequest(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {error}",
                kind
            ))
        }),
        "application/yaml" => yaml(call),
        _ => Err(Failure::UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml"
                .to_owned(),
        )),
    }
}

fn read_patch(call: &Call, kind: &Kind) -> Result<Patch, Failure> {
    let parse = || -> Result<Value, Failure> {
        serde_json::from_slice(&call.body)
            .map_err(|error| Failure::BadRequest(format!("error decoding patch: {error}")))
    };
    match content_type(call) {
        "application/json-patch+json" => Ok(Patch::Json(parse()?)),
        "application/merge-patch+json" => Ok(Patch::Merge(parse()?)),
        "application/strategic-merge-patch+json" if !kind.custom => Ok(Patch::Strategic(parse()?)),
        "application/apply-patch+yaml" => {
            if call.query.get("fieldManager").is_empty() {
                return Err(Failure::invalid(
                    "meta.k8s.io",
                    "PatchOptions",
                    "",
                    vec![Cause {
                        reason: "FieldValueRequired",
                        message: "Required value: is required for apply patch".to_owned(),
                        field: "fieldManager".to_owned(),
                    }],
                ));
            }
            Ok(Patch::Apply(yaml(call)?, call.query.flag("force")))
        }
        _ => Err(Failure::UnsupportedMediaType(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{}",
            if kind.custom {
                ""
            } else {
                ", application/strategic-merge-patch+json"
            }
        ))),
    }
}

fn watch(
    shared: &Arc<Shared>,
    call: &Call,
    target: &Target,
    kind: &Arc<Kind>,
    form: Form,
    include: &str,
    fault: Option<&Fault>,
) -> Result<Answer, Failure> {
    let query = &call.query;
    let mut fields = query.get("fieldSelector").to_owned();
    if !target.name.is_empty() {
        fields = format!("metadata.name={}", target.name);
    }
    let selector = Selector::parse(query.get("labelSelector"), &fields, kind)?;
    let scope = (kind.namespaced && !target.namespace.is_empty()).then(|| target.namespace.clone());
    let wanted = listing::version_of(query)?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let asked = query.get("sendInitialEvents");
    if !asked.is_empty() && query.get("resourceVersionMatch") != "NotOlderThan" {
        return Err(Failure::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            vec![Cause {
                reason: "FieldValueForbidden",
                message: "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                    .to_owned(),
                field: "resourceVersionMatch".to_owned(),
            }],
        ));
    }
    let initial = if asked.is_empty() {
        wanted == 0
    } else {
        asked == "true"
    };
    let mut cluster = shared.cluster.lock();
    let present = cluster.store.version();
    let changed = cluster.store.subscribe(&kind.table);
    let mut version = if initial || wanted == 0 { present } else { wanted };
    let objects = if initial {
        let scope = scope.as_deref();
        let listed = listing::list(&cluster, kind, scope, &selector, &Query::default(), None)?;
        Some((listed.objects, bookmarks))
    } else {
        None
    };
    let expired = if initial {
        Ok(())
    } else {
        cluster.store.reaches(&kind.table, version)
    };
    drop(cluster);
    if let Err(oldest) = expired {
        let failure = Failure::expired(format!("too old resource version: {version} ({oldest})"));
        let line = json!({"type": "ERROR", "object": failure.to_status()}).to_string() + "\n";
        return Ok(Answer {
            code: StatusCode::OK,
            content_type: "application/json",
            body: ResponseBody::full(line),
            warnings: Vec::new(),
            changed: false,
        });
    }
    if initial {
        version = version.max(present);
    }
    let timeout = query
        .get("timeoutSeconds")
        .parse::<u64>()
        .ok()
        .filter(|seconds| *seconds > 0)
        .map_or(shared.settings.watch_timeout, Duration::from_secs);
    let request = watching::Request {
        kind: Arc::clone(kind),
        namespace: scope,
        selector,
        form,
        include: include.to_owned(),
        initial: objects,
        version,
        bookmarks,
        bookmark_interval: shared.settings.bookmark_interval,
        timeout,
        slow: match fault {
            Some(Fault::SlowWatch(delay)) => Some(*delay),
            _ => None,
        },
        close_after: match fault {
            Some(Fault::CloseWatch(events)) => Some(*events),
            _ => None,
        },
    };
    let signals = shared.signals.subscribe();
    Ok(Answer {
        code: StatusCode::OK,
        content_type: "application/json",
        body: ResponseBody::lines(watching::watch(Arc::clone(shared), request, changed, signals)),
        warnings: Vec::new(),
        changed: false,
    })
}

/// `SelfSubjectAccessReview` and `SubjectAccessReview`: whether somebody may do something.
fn review(shared: &Shared, call: &Call, target: &Target) -> Result<Answer, Failure> {
    let known = discovery::REVIEWS
        .iter()
        .any(|(name, _)| *name == target.resource);
    if !known || target.verb != Verb::Create {
        return Err(Failure::NoSuchPath);
    }
    let mut value = parse_body(call, "SubjectAccessReview")?;
    let user = if target.resource == "subjectaccessreviews" {
        let groups: Vec<&str> = object::at(&value, &["spec", "groups"])
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        User::new(object::text(&value, &["spec", "user"]), &groups)
    } else {
        call.user.clone()
    };
    let allowed = match object::at(&value, &["spec", "resourceAttributes"]) {
        Some(attributes) => {
            let field = |name: &str| object::text(attributes, &[name]).to_owned();
            let verb = [
                Verb::Get,
                Verb::List,
                Verb::Watch,
                Verb::Create,
                Verb::Update,
                Verb::Patch,
                Verb::Delete,
                Verb::DeleteCollection,
            ]
            .into_iter()
            .find(|verb| verb.as_str() == field("verb"));
            verb.is_some_and(|verb| {
                let asked = Target {
                    verb,
                    group: field("group"),
                    version: field("version"),
                    resource: field("resource"),
                    subresource: field("subresource"),
                    namespace: field("namespace"),
                    name: field("name"),
                };
                rbac::allows(&shared.cluster.lock().store, &user, &asked).0
            })
        }
        None => rbac::allows_path(
            &user,
            object::text(&value, &["spec", "nonResourceAttributes", "path"]),
        ),
    };
    value["status"] = json!({"allowed": allowed});
    value["metadata"] = json!({"creationTimestamp": clock::seconds(shared.clock.now())});
    Ok(Answer::json(StatusCode::CREATED, &value))
}
