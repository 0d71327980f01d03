//! Between messages and checked values. What comes in is refused with the reason that fits; what goes out cannot fail.

use cairn_types::{ExportPolicy, SnapshotId, SnapshotReference, Squash, Tag, Timestamp, WorkspaceName};
use ipnet::IpNet;

use crate::{ApiError, Reason, proto};

/// Permission bits of a new workspace's root directory if none are given.
pub const ROOT_MODE_DEFAULT: u32 = 0o755;
/// Most permission bits.
pub const MODE_MAX: u32 = 0o7777;

/// A workspace name. Fails with [`Reason::WorkspaceNameInvalid`].
pub fn workspace_name(text: &str) -> Result<WorkspaceName, ApiError> {
    WorkspaceName::new(text).map_err(|error| {
        ApiError::new(Reason::WorkspaceNameInvalid, error.to_string())
            .remedy("use 1 to 128 of A-Z a-z 0-9 . _ -, a letter or digit first, without '..'")
            .detail("name", text)
    })
}

/// A reference to a snapshot. Fails with [`Reason::ReferenceInvalid`].
pub fn reference(text: &str) -> Result<SnapshotReference, ApiError> {
    SnapshotReference::parse(text).map_err(|error| {
        ApiError::new(
            Reason::ReferenceInvalid,
            format!("{text:?} cannot refer to a snapshot: {error}"),
        )
        .remedy("give 'latest', a tag, an id, or at least 4 first digits of one")
        .detail("reference", text)
    })
}

/// Tags. Fails with [`Reason::TagInvalid`] for the first bad one.
pub fn tags(texts: &[String]) -> Result<Vec<Tag>, ApiError> {
    texts
        .iter()
        .map(|text| {
            Tag::new(text).map_err(|error| {
                ApiError::new(Reason::TagInvalid, error.to_string())
                    .remedy("use 1 to 64 of A-Z a-z 0-9 . _ - : =, a letter or digit first, not 'latest'")
                    .detail("tag", text)
            })
        })
        .collect()
}

/// Permission bits of a root directory. Fails with [`Reason::ModeInvalid`].
pub fn root_mode(mode: Option<u32>) -> Result<u32, ApiError> {
    match mode {
        None => Ok(ROOT_MODE_DEFAULT),
        Some(mode) if mode <= MODE_MAX => Ok(mode),
        Some(mode) => Err(
            ApiError::new(Reason::ModeInvalid, format!("mode {mode:o} has bits beyond 7777"))
                .remedy("give permission bits in octal, such as 0755")
                .detail("mode", format_args!("{mode:o}")),
        ),
    }
}

/// An export policy; the default one if there is none. Fails with [`Reason::ExportPolicyInvalid`].
pub fn export_policy(message: Option<&proto::ExportPolicy>) -> Result<ExportPolicy, ApiError> {
    let Some(message) = message else {
        return Ok(ExportPolicy::default());
    };
    let squash = match proto::Squash::try_from(message.squash) {
        Ok(proto::Squash::None) => Squash::None,
        Ok(proto::Squash::Root) => Squash::Root,
        Ok(proto::Squash::All) => Squash::All,
        Ok(proto::Squash::Unspecified) | Err(_) => {
            return Err(policy_invalid(
                "squash",
                message.squash,
                "give none, root or all".to_owned(),
            ));
        }
    };
    if message.allow.len() > ExportPolicy::ALLOW_MAX {
        let remedy = format!("give at most {} networks, wider ones", ExportPolicy::ALLOW_MAX);
        return Err(policy_invalid(
            "allow",
            format_args!("{} networks", message.allow.len()),
            remedy,
        ));
    }
    Ok(ExportPolicy {
        squash,
        anonymous_uid: message.anonymous_uid,
        anonymous_gid: message.anonymous_gid,
        allow: message
            .allow
            .iter()
            .map(|text| network(text))
            .collect::<Result<_, _>>()?,
        read_only: message.read_only,
        privileged_port: message.privileged_port,
    })
}

fn network(text: &str) -> Result<IpNet, ApiError> {
    let remedy = "give a network in CIDR notation, such as 10.0.0.0/8 or fd00::/8";
    let network: IpNet = text
        .parse()
        .map_err(|_| policy_invalid("allow", text, remedy.to_owned()))?;
    // 10.1.2.3/8 is more likely a mistake about the length than a way to write 10.0.0.0/8.
    if network.trunc() != network {
        let remedy = format!(
            "bits beyond the prefix are set: did you mean {}?",
            network.trunc()
        );
        return Err(policy_invalid("allow", text, remedy));
    }
    Ok(network)
}

fn policy_invalid(field: &str, value: impl std::fmt::Display, remedy: String) -> ApiError {
    ApiError::new(
        Reason::ExportPolicyInvalid,
        format!("export policy: {field} cannot be {value}"),
    )
    .remedy(remedy)
    .detail("field", field)
    .detail("value", value)
}

/// Refuses a request that needs a feature which this version does not have, which is any.
/// Fails with [`Reason::FeatureUnsupported`].
pub fn requires(features: &[String]) -> Result<(), ApiError> {
    match features.first() {
        None => Ok(()),
        Some(feature) => Err(ApiError::new(
            Reason::FeatureUnsupported,
            format!("the request needs {feature:?}, which this version of cairnd does not have"),
        )
        .remedy("use a cairn and a cairnd of the same version")
        .detail("feature", feature)),
    }
}

/// What a workspace may hold; any amount if nothing is said. No number is too large.
pub fn limits(message: Option<&proto::CapacityLimits>) -> (Option<u64>, Option<u64>) {
    let given = |limit: Option<u64>| limit.filter(|limit| *limit < u64::MAX);
    message.map_or((None, None), |limits| (given(limits.bytes), given(limits.inodes)))
}

/// A time of a request. Fails with [`Reason::LimitExceeded`] if it is none.
pub fn requested_time(message: &prost_types::Timestamp) -> Result<Timestamp, ApiError> {
    let nanoseconds = u32::try_from(message.nanos)
        .ok()
        .filter(|nanoseconds| *nanoseconds < 1_000_000_000);
    let nanoseconds = nanoseconds.ok_or_else(|| {
        ApiError::new(
            Reason::LimitExceeded,
            "the nanoseconds of a time are not within a second",
        )
        .remedy("give 0 to 999,999,999")
        .detail("what", "nanoseconds")
        .detail("found", message.nanos)
        .detail("limit", 999_999_999)
    })?;
    Ok(Timestamp::new(message.seconds, nanoseconds))
}

/// An identity of a snapshot in a daemon's answer. Fails with [`Reason::Unrecognized`].
pub fn snapshot_id(text: &str) -> Result<SnapshotId, ApiError> {
    SnapshotId::parse(text).ok_or_else(|| ApiError::missing_field("a well-formed snapshot id"))
}

/// A policy as a message.
pub fn policy_message(policy: &ExportPolicy) -> proto::ExportPolicy {
    let squash = match policy.squash {
        Squash::None => proto::Squash::None,
        Squash::Root => proto::Squash::Root,
        Squash::All => proto::Squash::All,
    };
    proto::ExportPolicy {
        squash: squash.into(),
        anonymous_uid: policy.anonymous_uid,
        anonymous_gid: policy.anonymous_gid,
        allow: policy.allow.iter().map(ToString::to_string).collect(),
        read_only: policy.read_only,
        privileged_port: policy.privileged_port,
    }
}

/// A time as a message.
pub fn timestamp_message(time: Timestamp) -> prost_types::Timestamp {
    // Below 1,000,000,000 by the type's invariant.
    let nanos = i32::try_from(time.nanoseconds()).unwrap_or(i32::MAX);
    prost_types::Timestamp {
        seconds: time.seconds(),
        nanos,
    }
}

/// A time of a daemon's answer. Fails with [`Reason::Unrecognized`] if it is absent or out of range.
pub fn timestamp(message: Option<&prost_types::Timestamp>) -> Result<Timestamp, ApiError> {
    let lacking = || ApiError::missing_field("a time");
    let message = message.ok_or_else(lacking)?;
    let nanoseconds = u32::try_from(message.nanos)
        .ok()
        .filter(|nanoseconds| *nanoseconds < 1_000_000_000);
    Ok(Timestamp::new(message.seconds, nanoseconds.ok_or_else(lacking)?))
}

/// A failure of an operation, as if a request had failed so. A reason of a later version becomes [`Reason::Unrecognized`] with
/// the text of it among the details.
pub fn failure(message: &proto::Failure) -> ApiError {
    let mut error = match Reason::parse(&message.reason) {
        Some(reason) => ApiError::new(reason, &message.message),
        None => ApiError::new(Reason::Unrecognized, &message.message).detail("reason", &message.reason),
    };
    for (name, value) in &message.details {
        error = error.detail(name, value);
    }
    error.remedy(&message.remedy)
}

#[cfg(test)]
mod tests;
