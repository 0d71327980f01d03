//! The service `Workspaces`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cairn_api::convert;
use cairn_api::proto::workspaces_server::Workspaces;
use cairn_api::proto::{
    self, CheckUsageRequest, CheckUsageResponse, CreateWorkspaceRequest, CreateWorkspaceResponse,
    DeleteWorkspaceRequest, DeleteWorkspaceResponse, GetWorkspaceRequest, GetWorkspaceResponse,
    ListWorkspacesRequest, ListWorkspacesResponse, MountInfoRequest, MountInfoResponse, SetCapacityRequest,
    SetCapacityResponse, SetExportPolicyRequest, SetExportPolicyResponse,
};
use cairn_vfs::control::{CapacityLimits, NewWorkspace};
use tonic::{Request, Response, Status};

use super::{Service, messages};

#[tonic::async_trait]
impl Workspaces for Service {
    async fn create(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<CreateWorkspaceResponse>, Status> {
        let request = request.into_inner();
        let new = NewWorkspace {
            name: convert::workspace_name(&request.name)?,
            policy: convert::export_policy(request.policy.as_ref())?,
            uid: request.uid,
            gid: request.gid,
            mode: convert::root_mode(request.mode)?,
        };
        let limits = limits(request.limits.as_ref());
        let created = self
            .run(move |volumes| volumes.create_limited_workspace(new, limits))
            .await?;
        tracing::info!(workspace = %created.name, "created a workspace");
        Ok(Response::new(CreateWorkspaceResponse {
            workspace: Some(messages::workspace(&created)),
        }))
    }

    async fn list(
        &self,
        _request: Request<ListWorkspacesRequest>,
    ) -> Result<Response<ListWorkspacesResponse>, Status> {
        let all = self.run(|volumes| volumes.workspaces()).await?;
        Ok(Response::new(ListWorkspacesResponse {
            workspaces: all.iter().map(messages::workspace).collect(),
        }))
    }

    async fn get(
        &self,
        request: Request<GetWorkspaceRequest>,
    ) -> Result<Response<GetWorkspaceResponse>, Status> {
        let name = convert::workspace_name(&request.into_inner().name)?;
        let found = self.run(move |volumes| volumes.workspace(&name)).await?;
        Ok(Response::new(GetWorkspaceResponse {
            workspace: Some(messages::workspace(&found)),
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteWorkspaceRequest>,
    ) -> Result<Response<DeleteWorkspaceResponse>, Status> {
        let DeleteWorkspaceRequest { name, with_snapshots } = request.into_inner();
        let name = convert::workspace_name(&name)?;
        let deleted = name.clone();
        self.run(move |volumes| volumes.delete_workspace(&name, with_snapshots))
            .await?;
        tracing::info!(workspace = %deleted, with_snapshots, "deleted a workspace");
        Ok(Response::new(DeleteWorkspaceResponse {}))
    }

    async fn set_capacity(
        &self,
        request: Request<SetCapacityRequest>,
    ) -> Result<Response<SetCapacityResponse>, Status> {
        let request = request.into_inner();
        let name = convert::workspace_name(&request.name)?;
        let limits = limits(request.limits.as_ref());
        let changed = self
            .run(move |volumes| volumes.set_capacity(&name, limits))
            .await?;
        tracing::info!(workspace = %changed.name, ?limits, "changed what a workspace may hold");
        Ok(Response::new(SetCapacityResponse {
            workspace: Some(messages::workspace(&changed)),
        }))
    }

    async fn set_export_policy(
        &self,
        request: Request<SetExportPolicyRequest>,
    ) -> Result<Response<SetExportPolicyResponse>, Status> {
        let request = request.into_inner();
        let name = convert::workspace_name(&request.name)?;
        let policy = convert::export_policy(request.policy.as_ref())?;
        let changed = self
            .run(move |volumes| volumes.set_export_policy(&name, policy))
            .await?;
        tracing::info!(workspace = %changed.name, "changed who may mount a workspace");
        Ok(Response::new(SetExportPolicyResponse {
            workspace: Some(messages::workspace(&changed)),
        }))
    }

    async fn check_usage(
        &self,
        request: Request<CheckUsageRequest>,
    ) -> Result<Response<CheckUsageResponse>, Status> {
        let name = convert::workspace_name(&request.into_inner().name)?;
        let check = self.run(move |volumes| volumes.check_usage(&name)).await?;
        Ok(Response::new(CheckUsageResponse {
            recorded_inodes: check.recorded.inodes,
            recorded_bytes: check.recorded.bytes,
            counted_inodes: check.counted.inodes,
            counted_bytes: check.counted.bytes,
        }))
    }

    async fn mount_info(
        &self,
        request: Request<MountInfoRequest>,
    ) -> Result<Response<MountInfoResponse>, Status> {
        let name = convert::workspace_name(&request.into_inner().name)?;
        let found = self.run(move |volumes| volumes.workspace(&name)).await?;
        let listen = self.node.endpoints.nfs;
        let server = reachable(listen.ip());
        Ok(Response::new(MountInfoResponse {
            file_system: "nfs".to_owned(),
            server: match server {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            },
            port: listen.port().into(),
            export: format!("/{}", found.name),
            options: mount_options(server, listen.port()),
        }))
    }
}

fn limits(message: Option<&proto::CapacityLimits>) -> CapacityLimits {
    let (bytes, inodes) = convert::limits(message);
    CapacityLimits { bytes, inodes }
}

/// An address at which this node reaches a listener: a wildcard is reached over loopback.
pub(super) fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// Options of nfs(5). Both ports are given, so that no portmapper is asked; there is no lock manager, so locks are local
/// (`nolock`); `hard` waits for a daemon that restarts, instead of failing the application.
pub(super) fn mount_options(server: IpAddr, port: u16) -> Vec<String> {
    let (transport, mount_transport) = match server {
        IpAddr::V4(_) => ("tcp", "tcp"),
        IpAddr::V6(_) => ("proto=tcp6", "tcp6"),
    };
    vec![
        "vers=3".to_owned(),
        transport.to_owned(),
        format!("port={port}"),
        format!("mountport={port}"),
        format!("mountproto={mount_transport}"),
        "nolock".to_owned(),
        "hard".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::{mount_options, reachable};

    #[test]
    fn options_name_both_ports_and_the_family() {
        let options = mount_options("127.0.0.1".parse().unwrap(), 12049);
        assert_eq!(
            options.join(","),
            "vers=3,tcp,port=12049,mountport=12049,mountproto=tcp,nolock,hard"
        );
        let options = mount_options("::1".parse().unwrap(), 1);
        assert_eq!(
            options.join(","),
            "vers=3,proto=tcp6,port=1,mountport=1,mountproto=tcp6,nolock,hard"
        );
    }

    #[test]
    fn wildcards_are_reached_over_loopback() {
        for (listen, server) in [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.1", "10.0.0.1")] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), server);
        }
    }
}
