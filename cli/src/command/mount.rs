//! `cairn mount-command`.

use cairn_api::proto;

use super::Session;
use crate::failure::Failure;
use crate::json::MountCommand;
use crate::progress::while_waiting;
use crate::target::Target;

pub(super) async fn run(
    session: &mut Session,
    target: &str,
    mount_point: Option<String>,
) -> Result<(), Failure> {
    let name = Target::parse(target)?.into_workspace()?;
    let mount_point = mount_point.unwrap_or_else(|| format!("/mnt/{name}"));
    let mut client = session.connect().await?;
    let asking = client.workspaces.mount_info(proto::MountInfoRequest { name });
    let info = while_waiting("asking for the export", asking).await?.into_inner();
    let command = MountCommand::new(info, mount_point);
    session
        .output
        .put(&command, || format!("{}\n", command.command))?;
    Ok(())
}
