//! `cairn workspace`: create, list, show, limit, export, check, delete.

use cairn_api::{ApiError, convert, proto};
use cairn_types::ExportPolicy;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Session;
use super::directory::labels::missing;
use crate::arguments::{CreateArguments, LimitArguments, PolicyArguments, Squash, WorkspaceCommand};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::progress::while_waiting;
use crate::target::Target;
use crate::units::Limit;
use crate::{json, text};

#[derive(Serialize)]
struct Listed {
    workspaces: Vec<json::Workspace>,
}

#[derive(Serialize)]
struct Deleted<'a> {
    deleted: &'a str,
}

pub(super) async fn run(session: &mut Session, command: WorkspaceCommand) -> Result<(), Failure> {
    match command {
        WorkspaceCommand::Create(arguments) => create(session, arguments).await,
        WorkspaceCommand::List => list(session).await,
        WorkspaceCommand::Show { target } => show(session, &target).await,
        WorkspaceCommand::Limit { target, limits } => limit(session, &target, limits).await,
        WorkspaceCommand::Export {
            target,
            policy: arguments,
        } => export(session, &target, policy(&arguments)).await,
        WorkspaceCommand::Check { target } => check(session, &target).await,
        WorkspaceCommand::Delete {
            target,
            with_snapshots,
            yes,
        } => delete(session, &target, with_snapshots, yes).await,
    }
}

/// The policy that options stand for.
pub(super) fn policy(arguments: &PolicyArguments) -> proto::ExportPolicy {
    let squash = match arguments.squash {
        Squash::None => proto::Squash::None,
        Squash::Root => proto::Squash::Root,
        Squash::All => proto::Squash::All,
    };
    let default = convert::policy_message(&ExportPolicy::default());
    proto::ExportPolicy {
        squash: squash.into(),
        anonymous_uid: arguments.anon_uid,
        anonymous_gid: arguments.anon_gid,
        allow: if arguments.allow.is_empty() {
            default.allow
        } else {
            arguments.allow.clone()
        },
        read_only: arguments.read_only,
        privileged_port: !arguments.any_port,
    }
}

async fn create(session: &mut Session, arguments: CreateArguments) -> Result<(), Failure> {
    convert::workspace_name(&arguments.name)?;
    let policy = policy(&arguments.policy);
    convert::export_policy(Some(&policy))?;
    let request = proto::CreateWorkspaceRequest {
        policy: Some(policy),
        uid: arguments.uid,
        gid: arguments.gid,
        mode: Some(arguments.mode),
        limits: Some(limited(arguments.limits, proto::CapacityLimits::default())),
        name: arguments.name,
    };
    let mut client = session.connect().await?;
    let answer = while_waiting("making the workspace", client.workspaces.create(request))
        .await?
        .into_inner();
    let workspace = received(answer.workspace)?;
    let name = workspace.name.clone();
    session.output.put(&json::Workspace::try_from(workspace)?, || {
        format!("made workspace {name}\nto mount it here: cairn mount-command {name}\n")
    })?;
    Ok(())
}

async fn list(session: &mut Session) -> Result<(), Failure> {
    let mut client = session.connect().await?;
    let asking = client.workspaces.list(proto::ListWorkspacesRequest {});
    let workspaces = while_waiting("listing workspaces", asking)
        .await?
        .into_inner()
        .workspaces;
    let text = list_text(&workspaces, &TimeZone::system())?;
    let workspaces = workspaces
        .into_iter()
        .map(json::Workspace::try_from)
        .collect::<Result<_, _>>()?;
    session.output.put(&Listed { workspaces }, || text)?;
    Ok(())
}

fn list_text(workspaces: &[proto::Workspace], zone: &TimeZone) -> Result<String, ApiError> {
    if workspaces.is_empty() {
        return Ok("no workspaces; to make one: cairn workspace create NAME\n".to_owned());
    }
    let row = |workspace: &proto::Workspace| {
        Ok(vec![
            workspace.name.clone(),
            workspace.snapshots.to_string(),
            workspace.inodes.to_string(),
            text::size(workspace.bytes),
            text::local_time(convert::timestamp(workspace.created.as_ref())?, zone),
        ])
    };
    let rows = workspaces.iter().map(row).collect::<Result<Vec<_>, ApiError>>()?;
    Ok(text::table(
        &["NAME", ">SNAPSHOTS", ">INODES", ">SIZE", "CREATED"],
        &rows,
    ))
}

async fn show(session: &mut Session, target: &str) -> Result<(), Failure> {
    let name = Target::parse(target)?.into_workspace()?;
    let mut client = session.connect().await?;
    let asking = client.workspaces.get(proto::GetWorkspaceRequest { name });
    let workspace = received(
        while_waiting("asking for the workspace", asking)
            .await?
            .into_inner()
            .workspace,
    )?;
    let text = show_text(&workspace, &TimeZone::system())?;
    session
        .output
        .put(&json::Workspace::try_from(workspace)?, || text)?;
    Ok(())
}

fn show_text(workspace: &proto::Workspace, zone: &TimeZone) -> Result<String, ApiError> {
    let policy = workspace
        .policy
        .as_ref()
        .ok_or_else(|| ApiError::missing_field("the export policy"))?;
    let clients = match policy.allow.as_slice() {
        [] => "nobody".to_owned(),
        networks => networks.join(", "),
    };
    let squashed = match policy.squash() {
        proto::Squash::None => "nobody".to_owned(),
        proto::Squash::Root => format!("root, by {}:{}", policy.anonymous_uid, policy.anonymous_gid),
        proto::Squash::All => format!("everybody, by {}:{}", policy.anonymous_uid, policy.anonymous_gid),
        proto::Squash::Unspecified => "unknown".to_owned(),
    };
    let ports = if policy.privileged_port {
        "below 1024"
    } else {
        "any"
    };
    let access = if policy.read_only {
        "read only"
    } else {
        "read and write"
    };
    let lines = [
        ("name", workspace.name.clone()),
        (
            "created",
            text::local_time(convert::timestamp(workspace.created.as_ref())?, zone),
        ),
        (
            "size",
            format!("{} in {} inodes", text::size(workspace.bytes), workspace.inodes),
        ),
        ("may hold", limits_text(workspace)),
        ("snapshots", workspace.snapshots.to_string()),
        (
            "forked from",
            workspace
                .forked_from
                .clone()
                .unwrap_or_else(|| "nothing".to_owned()),
        ),
        ("clients", clients),
        ("source ports", ports.to_owned()),
        ("access", access.to_owned()),
        ("squashed", squashed),
    ];
    Ok(lines
        .iter()
        .map(|(name, value)| format!("{name:<13} {value}\n"))
        .collect())
}

/// Limits with what was given of them changed.
fn limited(arguments: LimitArguments, now: proto::CapacityLimits) -> proto::CapacityLimits {
    proto::CapacityLimits {
        bytes: arguments.bytes.map_or(now.bytes, Limit::number),
        inodes: arguments.inodes.map_or(now.inodes, Limit::number),
    }
}

async fn limit(session: &mut Session, target: &str, arguments: LimitArguments) -> Result<(), Failure> {
    if arguments == LimitArguments::default() {
        return Err(missing("--bytes or --inodes"));
    }
    let name = Target::parse(target)?.into_workspace()?;
    let mut client = session.connect().await?;
    let asking = client
        .workspaces
        .get(proto::GetWorkspaceRequest { name: name.clone() });
    let now = while_waiting("asking for the workspace", asking)
        .await?
        .into_inner();
    let limits = limited(arguments, received(now.workspace)?.limits.unwrap_or_default());
    let asking = client.workspaces.set_capacity(proto::SetCapacityRequest {
        name,
        limits: Some(limits),
    });
    let changed = while_waiting("changing the limits", asking).await?.into_inner();
    let workspace = received(changed.workspace)?;
    let told = format!(
        "workspace {} may hold {}\n",
        workspace.name,
        limits_text(&workspace)
    );
    session
        .output
        .put(&json::Workspace::try_from(workspace)?, || told)?;
    Ok(())
}

/// What a workspace may hold.
fn limits_text(workspace: &proto::Workspace) -> String {
    let limits = workspace.limits.unwrap_or_default();
    let bytes = limits.bytes.map(text::size);
    let inodes = limits.inodes.map(|inodes| inodes.to_string());
    match (bytes, inodes) {
        (None, None) => "any amount".to_owned(),
        (Some(bytes), None) => format!("{bytes} in any number of inodes"),
        (bytes, Some(inodes)) => {
            let bytes = bytes.unwrap_or_else(|| "any amount".to_owned());
            format!("{bytes} in {inodes} inodes")
        }
    }
}

async fn export(session: &mut Session, target: &str, policy: proto::ExportPolicy) -> Result<(), Failure> {
    let name = Target::parse(target)?.into_workspace()?;
    convert::export_policy(Some(&policy))?;
    let mut client = session.connect().await?;
    let asking = client
        .workspaces
        .set_export_policy(proto::SetExportPolicyRequest {
            name,
            policy: Some(policy),
        });
    let changed = while_waiting("changing who may mount", asking)
        .await?
        .into_inner();
    let workspace = received(changed.workspace)?;
    let told = show_text(&workspace, &TimeZone::system())?;
    session
        .output
        .put(&json::Workspace::try_from(workspace)?, || told)?;
    Ok(())
}

#[derive(Serialize)]
struct Figures {
    inodes: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Checked {
    recorded: Figures,
    counted: Figures,
}

async fn check(session: &mut Session, target: &str) -> Result<(), Failure> {
    let name = Target::parse(target)?.into_workspace()?;
    let mut client = session.connect().await?;
    let asking = client.workspaces.check_usage(proto::CheckUsageRequest { name });
    let found = while_waiting("counting", asking).await?.into_inner();
    let (recorded, counted) = (
        (found.recorded_inodes, found.recorded_bytes),
        (found.counted_inodes, found.counted_bytes),
    );
    let figures = |(inodes, bytes)| Figures { inodes, bytes };
    let shown = |(inodes, bytes)| format!("{} in {inodes} inodes", text::size(bytes));
    let told = match recorded == counted {
        true => format!("{}, as recorded\n", shown(counted)),
        false => format!(
            "{}; recorded was {}, which is put right\n",
            shown(counted),
            shown(recorded)
        ),
    };
    let checked = Checked {
        recorded: figures(recorded),
        counted: figures(counted),
    };
    session.output.put(&checked, || told)?;
    Ok(())
}

async fn delete(session: &mut Session, target: &str, with_snapshots: bool, yes: bool) -> Result<(), Failure> {
    let name = Target::parse(target)?.into_workspace()?;
    if !yes {
        ask(&name, with_snapshots)?;
    }
    let mut client = session.connect().await?;
    let request = proto::DeleteWorkspaceRequest {
        name: name.clone(),
        with_snapshots,
    };
    while_waiting("deleting the workspace", client.workspaces.delete(request)).await?;
    session.output.put(&Deleted { deleted: &name }, || {
        format!("deleted workspace {name}\n")
    })?;
    Ok(())
}

fn ask(name: &str, with_snapshots: bool) -> Result<(), Failure> {
    let what = if with_snapshots {
        " with all its snapshots"
    } else {
        ""
    };
    let question = format!("Delete workspace {name}{what}? This cannot be undone. Type its name:");
    confirm(&format!("deleting {name}"), &question, name)
}

/// A workspace of an answer.
pub(super) fn received(workspace: Option<proto::Workspace>) -> Result<proto::Workspace, ApiError> {
    workspace.ok_or_else(|| ApiError::missing_field("the workspace"))
}

#[cfg(test)]
mod tests {
    use cairn_api::{ProtoTimestamp, convert, proto};
    use cairn_types::ExportPolicy;
    use clap::Parser;
    use jiff::tz::TimeZone;

    use super::{list_text, policy, show_text};
    use crate::arguments::{Arguments, Command, CreateArguments, WorkspaceCommand};

    fn workspace(name: &str, bytes: u64) -> proto::Workspace {
        proto::Workspace {
            name: name.to_owned(),
            volume: 1,
            created: Some(ProtoTimestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            policy: Some(convert::policy_message(&ExportPolicy::default())),
            forked_from: None,
            snapshots: 2,
            inodes: 4,
            bytes,
            limits: None,
        }
    }

    #[test]
    fn a_list_is_a_table() {
        let text = list_text(&[workspace("a", 0), workspace("model", 3 << 20)], &TimeZone::UTC).unwrap();
        assert_eq!(
            text,
            "NAME   SNAPSHOTS  INODES     SIZE  CREATED\n\
             a              2       4      0 B  2023-11-14 22:13:20\n\
             model          2       4  3.0 MiB  2023-11-14 22:13:20\n"
        );
        assert!(
            list_text(&[], &TimeZone::UTC)
                .unwrap()
                .contains("cairn workspace create")
        );
    }

    #[test]
    fn a_workspace_is_shown_line_by_line() {
        let text = show_text(&workspace("model", 1), &TimeZone::UTC).unwrap();
        assert_eq!(
            text,
            "name          model\n\
             created       2023-11-14 22:13:20\n\
             size          1 B in 4 inodes\n\
             may hold      any amount\n\
             snapshots     2\n\
             forked from   nothing\n\
             clients       127.0.0.0/8, ::1/128\n\
             source ports  below 1024\n\
             access        read and write\n\
             squashed      nobody\n"
        );
    }

    fn create(arguments: &[&str]) -> CreateArguments {
        let line = [&["cairn", "workspace", "create"], arguments].concat();
        match Arguments::parse_from(line).command {
            Command::Workspace(WorkspaceCommand::Create(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_become_the_policy() {
        let default = convert::policy_message(&ExportPolicy::default());
        assert_eq!(policy(&create(&["w"]).policy), default);
        let all = create(&[
            "w",
            "--squash",
            "all",
            "--anon-uid",
            "7",
            "--anon-gid",
            "8",
            "--allow",
            "10.0.0.0/8",
            "--allow",
            "fd00::/8",
            "--read-only",
            "--any-port",
        ]);
        let expected = proto::ExportPolicy {
            squash: proto::Squash::All.into(),
            anonymous_uid: 7,
            anonymous_gid: 8,
            allow: vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()],
            read_only: true,
            privileged_port: false,
        };
        assert_eq!(policy(&all.policy), expected);
    }
}
