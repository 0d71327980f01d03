//! `cairn status`.

use cairn_api::{ApiError, convert, proto};
use jiff::tz::TimeZone;

use super::Session;
use crate::failure::Failure;
use crate::progress::while_waiting;
use crate::{json, text};

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let asking = client.node.status(proto::StatusRequest {});
    let status = while_waiting("asking for the status", asking).await?.into_inner();
    let text = status_text(&status, &TimeZone::system())?;
    session.output.put(&json::Status::try_from(status)?, || text)?;
    Ok(())
}

fn status_text(status: &proto::StatusResponse, zone: &TimeZone) -> Result<String, ApiError> {
    let started = text::local_time(convert::timestamp(status.started.as_ref())?, zone);
    let ready = status.conditions.iter().all(|condition| condition.holds);
    let mut lines = vec![
        (
            "cairnd".to_owned(),
            format!("{}, process {}", status.version, status.process_id),
        ),
        (
            "running".to_owned(),
            format!("{}, since {started}", text::duration(status.uptime_seconds)),
        ),
        ("data".to_owned(), text::path(&status.data_directory)),
    ];
    lines.extend(
        status
            .listeners
            .iter()
            .map(|listener| (listener.service.clone(), listener.address.clone())),
    );
    if let Some(usage) = &status.usage {
        lines.extend([
            (
                "holds".to_owned(),
                format!("{} workspaces, {} snapshots", usage.workspaces, usage.snapshots),
            ),
            (
                "disk".to_owned(),
                format!(
                    "{} content log, {} metadata, {} free of which {} are reserved",
                    text::size(usage.log_bytes),
                    text::size(usage.metadata_bytes),
                    text::size(usage.disk_free_bytes),
                    text::size(usage.disk_reserve_bytes)
                ),
            ),
            (
                "unstable".to_owned(),
                format!(
                    "{} written and not yet committed",
                    text::size(usage.unstable_bytes)
                ),
            ),
        ]);
        let swept = usage.swept.unwrap_or_default();
        if swept.versions_removed > 0 || swept.segments > 0 {
            lines.push((
                "freed".to_owned(),
                format!(
                    "{} content log, {} metadata, since the start",
                    text::size(swept.log_bytes),
                    text::size(swept.metadata_bytes)
                ),
            ));
        }
    }
    lines.push(("ready".to_owned(), if ready { "yes" } else { "no" }.to_owned()));
    for condition in status.conditions.iter().filter(|condition| !condition.holds) {
        lines.push((
            String::new(),
            format!("{}: {}", condition.name, text::line(&condition.message)),
        ));
    }
    Ok(lines
        .iter()
        .map(|(name, value)| format!("{name:<9} {value}\n"))
        .collect())
}

#[cfg(test)]
mod tests {
    use cairn_api::{ProtoTimestamp, proto};
    use jiff::tz::TimeZone;

    use super::status_text;

    #[test]
    fn what_does_not_hold_is_shown() {
        let condition = |name: &str, holds| proto::Condition {
            name: name.to_owned(),
            holds,
            message: "12 bytes free".to_owned(),
        };
        let status = proto::StatusResponse {
            version: "0.1.0".to_owned(),
            process_id: 7,
            started: Some(ProtoTimestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            uptime_seconds: 61,
            data_directory: b"/d".to_vec(),
            listeners: vec![proto::Listener {
                service: "nfs".to_owned(),
                address: "127.0.0.1:12049".to_owned(),
            }],
            usage: Some(proto::Usage {
                workspaces: 2,
                snapshots: 3,
                disk_free_bytes: 1 << 30,
                ..proto::Usage::default()
            }),
            conditions: vec![condition("serving", true), condition("disk_space", false)],
        };
        assert_eq!(
            status_text(&status, &TimeZone::UTC).unwrap(),
            "cairnd    0.1.0, process 7\n\
             running   1 min 1 s, since 2023-11-14 22:13:20\n\
             data      /d\n\
             nfs       127.0.0.1:12049\n\
             holds     2 workspaces, 3 snapshots\n\
             disk      0 B content log, 0 B metadata, 1.0 GiB free of which 0 B are reserved\n\
             unstable  0 B written and not yet committed\n\
             ready     no\n          disk_space: 12 bytes free\n"
        );
    }
}
