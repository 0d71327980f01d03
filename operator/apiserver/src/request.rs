//! What a request asks for: path and query taken apart (`RequestInfo` of the real server).

use std::collections::BTreeMap;

use http::{HeaderMap, Method};

use crate::status::Failure;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// The name, as `system:serviceaccount:cairn:operator`.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

impl User {
    /// A user in the given groups, and in `system:authenticated`.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push("system:authenticated".to_owned());
        Self {
            name: name.to_owned(),
            groups,
        }
    }

    /// One who may do everything.
    pub fn admin() -> Self {
        Self::new("admin", &["system:masters"])
    }

    /// A service account, with the groups that belong to one.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &[
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{namespace}"),
            ],
        )
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the verbs of Kubernetes")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As RBAC writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it changes anything.
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// The resource that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is done.
    pub verb: Verb,
    /// The API group; empty for the core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural.
    pub resource: String,
    /// The subresource, or the empty string.
    pub subresource: String,
    /// The namespace, or the empty string.
    pub namespace: String,
    /// The name, or the empty string.
    pub name: String,
}

/// The query.
#[derive(Debug, Clone, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Takes a query string apart.
    pub fn parse(text: &str) -> Self {
        Self(
            text.split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// A value, or the empty string.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A flag: `true`, `1`, or there without a value.
    pub fn flag(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|value| matches!(value.as_str(), "true" | "1" | ""))
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
                bytes.push(u8::try_from(digit(*high) * 16 + digit(*low)).unwrap_or(b'?'));
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Target {
    /// Takes apart the path of a resource; none for any other path.
    ///
    /// # Errors
    /// `Failure::MethodNotAllowed` for a method that no resource has.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Result<Option<Self>, Failure> {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Ok(None),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..]
                if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) =>
            {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (*resource, "", String::new()),
            [resource, name] => (*resource, *name, String::new()),
            [resource, name, sub @ ..] => (*resource, *name, sub.join("/")),
            [] => return Ok(None),
        };
        // A namespace is known by itself.
        let namespace = if resource == "namespaces" && group.is_empty() {
            name
        } else {
            namespace
        };
        let verb = match (method.as_str(), name.is_empty()) {
            ("GET" | "HEAD", true) if query.flag("watch") => Verb::Watch,
            ("GET" | "HEAD", true) => Verb::List,
            ("GET" | "HEAD", false) if query.flag("watch") => Verb::Watch,
            ("GET" | "HEAD", false) => Verb::Get,
            ("POST", _) => Verb::Create,
            ("PUT", false) => Verb::Update,
            ("PATCH", false) => Verb::Patch,
            ("DELETE", true) => Verb::DeleteCollection,
            ("DELETE", false) => Verb::Delete,
            _ => return Err(Failure::MethodNotAllowed),
        };
        Ok(Some(Self {
            verb,
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            subresource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }))
    }

    /// Plural, subresource and group as messages and rules name them: `workspaces/status.jvs.io`.
    pub fn qualified(&self) -> String {
        let mut text = self.resource.clone();
        if !self.group.is_empty() {
            text = format!("{text}.{}", self.group);
        }
        text
    }
}

/// In what form the answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Whole objects.
    Object,
    /// Metadata alone (`PartialObjectMetadata`).
    Metadata,
    /// A table for people (`Table`).
    Table,
}

impl Form {
    /// Reads `Accept`: the first form that is understood.
    ///
    /// # Errors
    /// `Failure` with 406 when none is.
    pub fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let accept = headers
            .get(http::header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("*/*");
        for choice in accept.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "*/*" | "application/*" | "") {
                continue;
            }
            let target = parts.find_map(|part| part.strip_prefix("as="));
            match target {
                None => return Ok(Self::Object),
                Some("Table") => return Ok(Self::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Ok(Self::Metadata),
                Some(_) => {}
            }
        }
        Err(Failure::Internal {
            code: 406,
            message: "only the following media types are accepted: application/json".to_owned(),
        })
    }
}

/// The manager that a writer is: the parameter, else the first part of the user agent.
pub fn manager(query: &Query, headers: &HeaderMap) -> String {
    let given = query.get("fieldManager");
    if !given.is_empty() {
        return given.to_owned();
    }
    headers
        .get(http::header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .and_then(|agent| agent.split('/').next())
        .filter(|name| !name.is_empty())
        .map_or_else(|| "unknown".to_owned(), |name| name.chars().take(128).collect())
}
