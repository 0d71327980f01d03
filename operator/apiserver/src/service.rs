//! Requests in, answers out: a `tower::Service` for one user. Who asks, whether they may, what goes wrong on purpose and
//! what is counted is settled here; what is done is in `dispatch`.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::{
    body::{BoxError, ResponseBody},
    dispatch::{self, Answer},
    faults::{Counted, Fault},
    rbac,
    request::{Query, Target, User},
    server::Shared,
    status::Failure,
};

/// The largest body of a request, in bytes; that of the real server.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The connection broke, because a fault was planned.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed on purpose")]
pub struct ConnectionDropped;

/// A request with its body read.
#[derive(Debug)]
pub(crate) struct Call {
    pub user: User,
    pub method: Method,
    pub path: String,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The server for one user.
#[derive(Debug, Clone)]
pub struct ApiService {
    shared: Arc<Shared>,
    user: User,
}

impl ApiService {
    pub(crate) fn new(shared: Arc<Shared>, user: User) -> Self {
        Self { shared, user }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let user = self.user.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
                Ok(collected) => collected.to_bytes(),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    return Ok(refusal(&Failure::TooLarge(BODY_BYTES_MAX)));
                }
                Err(error) => return Err(error),
            };
            let call = Call {
                user,
                method: parts.method,
                path: path_of(&parts.uri),
                query: Query::parse(parts.uri.query().unwrap_or_default()),
                headers: parts.headers,
                body,
            };
            answer(shared, call).await
        })
    }
}

fn path_of(uri: &Uri) -> String {
    uri.path().to_owned()
}

async fn answer(shared: Arc<Shared>, mut call: Call) -> Result<Response<ResponseBody>, BoxError> {
    impersonate(&mut call);
    let target = match Target::parse(&call.method, &call.path, &call.query) {
        Ok(target) => target,
        Err(failure) => return Ok(refusal(&failure)),
    };
    let Some(target) = target else {
        if shared.settings.rbac && !rbac::allows_path(&call.user, &call.path) {
            let message = format!(
                "forbidden: User \"{}\" cannot get path \"{}\"",
                call.user.name, call.path
            );
            return Ok(refusal(&Failure::Forbidden {
                resource: String::new(),
                name: String::new(),
                message,
                causes: Vec::new(),
            }));
        }
        return Ok(finish(&shared, None, dispatch::path(&shared, &call)));
    };
    let mut counted = Counted {
        user: call.user.name.clone(),
        verb: target.verb,
        resource: target.qualified(),
    };
    if !target.subresource.is_empty() {
        counted.resource = format!("{}/{}", counted.resource, target.subresource);
    }
    *shared
        .counters
        .lock()
        .requests
        .entry(counted.clone())
        .or_insert(0) += 1;
    if shared.settings.rbac
        && let Err(failure) = authorise(&shared, &call.user, &target)
    {
        return Ok(finish(&shared, None, Err(failure)));
    }
    let fault = shared.faults.lock().take(&target, &call.user);
    match &fault {
        Some(Fault::TooManyRequests(retry_after)) => {
            let failure = Failure::TooManyRequests {
                retry_after: *retry_after,
            };
            return Ok(finish(&shared, None, Err(failure)));
        }
        Some(Fault::ErrorBefore(code)) => return Ok(finish(&shared, None, Err(planned(*code)))),
        Some(Fault::DropBefore) => return Err(ConnectionDropped.into()),
        Some(Fault::Delay(delay)) => tokio::time::sleep(*delay).await,
        _ => {}
    }
    let answer = dispatch::resource(&shared, &call, &target, fault.as_ref());
    match &fault {
        Some(Fault::ErrorAfter(code)) => {
            let code = *code;
            let changed = answer.as_ref().is_ok_and(|answer| answer.changed);
            if changed {
                *shared.counters.lock().changes.entry(counted).or_insert(0) += 1;
            }
            Ok(finish(&shared, None, Err(planned(code))))
        }
        Some(Fault::DropAfter) => Err(ConnectionDropped.into()),
        _ => Ok(finish(&shared, Some(counted), answer)),
    }
}

fn planned(code: u16) -> Failure {
    Failure::Internal {
        code,
        message: format!("planned fault with code {code}"),
    }
}

/// Administrators may act for others (`kubectl --as`).
fn impersonate(call: &mut Call) {
    if !call.user.groups.iter().any(|group| group == "system:masters") {
        return;
    }
    let Some(name) = call
        .headers
        .get("impersonate-user")
        .and_then(|value| value.to_str().ok())
    else {
        return;
    };
    let groups: Vec<&str> = call
        .headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    call.user = match name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        Some((namespace, account)) if groups.is_empty() => User::service_account(namespace, account),
        _ => User::new(name, &groups),
    };
}

pub(crate) fn authorise(shared: &Shared, user: &User, target: &Target) -> Result<(), Failure> {
    let (allowed, grant) = rbac::allows(&shared.cluster.lock().store, user, target);
    if let Some(grant) = grant {
        *shared.usage.lock().entry(grant).or_insert(0) += 1;
    }
    if allowed {
        return Ok(());
    }
    let mut resource = target.resource.clone();
    if !target.subresource.is_empty() {
        resource = format!("{resource}/{}", target.subresource);
    }
    let place = if target.namespace.is_empty()
        || target.resource == "namespaces" && target.group.is_empty() && target.name.is_empty()
    {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", target.namespace)
    };
    let qualified = target.qualified();
    let named = if target.name.is_empty() {
        format!("{qualified} is forbidden")
    } else {
        format!("{qualified} \"{}\" is forbidden", target.name)
    };
    Err(Failure::Forbidden {
        resource: qualified,
        name: target.name.clone(),
        message: format!(
            "{named}: User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}",
            user.name,
            target.verb.as_str(),
            target.group
        ),
        causes: Vec::new(),
    })
}

fn finish(
    shared: &Shared,
    counted: Option<Counted>,
    answer: Result<Answer, Failure>,
) -> Response<ResponseBody> {
    let response = match answer {
        Ok(answer) => {
            if answer.changed
                && let Some(counted) = counted
            {
                *shared.counters.lock().changes.entry(counted).or_insert(0) += 1;
            }
            let mut builder = Response::builder()
                .status(answer.code)
                .header(header::CONTENT_TYPE, answer.content_type)
                .header(header::CACHE_CONTROL, "no-cache, private");
            for warning in &answer.warnings {
                let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
                if let Ok(value) = header::HeaderValue::from_str(&text) {
                    builder = builder.header(header::WARNING, value);
                }
            }
            builder
                .body(answer.body)
                .unwrap_or_else(|_| Response::new(ResponseBody::full(Bytes::new())))
        }
        Err(failure) => refusal(&failure),
    };
    *shared
        .counters
        .lock()
        .codes
        .entry(response.status().as_u16())
        .or_insert(0) += 1;
    response
}

/// The answer that tells a failure.
pub(crate) fn refusal(failure: &Failure) -> Response<ResponseBody> {
    let mut builder = Response::builder()
        .status(failure.code())
        .header(header::CONTENT_TYPE, "application/json");
    if let Failure::TooManyRequests { retry_after } = failure {
        builder = builder.header(header::RETRY_AFTER, retry_after.to_string());
    }
    if matches!(failure, Failure::NoSuchPage) {
        let mut response = Response::new(ResponseBody::full("404 page not found\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let body: Value = failure.to_status();
    builder
        .body(ResponseBody::full(body.to_string()))
        .unwrap_or_else(|_| {
            let mut response = Response::new(ResponseBody::full(Bytes::new()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
}
