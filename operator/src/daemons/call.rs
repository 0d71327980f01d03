//! The requests that the operator sends, as one type, so that whoever sends, counts, delays or refuses them does it for all alike.

use std::time::Duration;

use cairn_api::proto;

/// How long a request may take that only looks something up.
const QUICK: Duration = Duration::from_secs(10);
/// How long a request may take that changes something. What takes longer is an operation of the daemon.
const CHANGE: Duration = Duration::from_secs(30);

/// A request with the type of its answer.
pub trait Call: Send + Sized {
    /// The answer.
    type Answer;

    /// The request as one of all.
    fn into_request(self) -> Request;

    /// The answer to it; nothing if the response is the answer to another request, which is a fault of the sender.
    fn answer(response: Response) -> Option<Self::Answer>;
}

macro_rules! calls {
    ($($name:ident, $request:ident, $response:ident, $method:ident, $deadline:expr, $fenced:tt;)*) => {
        /// What a daemon is asked.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $(
                #[doc = concat!("`Control.", stringify!($name), "`")]
                $name(proto::$request),
            )*
        }

        /// What a daemon answers.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Response {
            $(
                #[doc = concat!("The answer to [`Request::", stringify!($name), "`]")]
                $name(proto::$response),
            )*
        }

        impl Request {
            /// The method's name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Request::$name(_) => stringify!($name),)*
                }
            }

            /// How long its answer is waited for.
            pub fn deadline(&self) -> Duration {
                match self {
                    $(Request::$name(_) => $deadline,)*
                }
            }

            /// Says by whom it is led and for which process it is meant, if it takes that.
            pub fn set_fence(&mut self, fence: proto::Fence) {
                match self {
                    $(Request::$name(request) => calls!(@fence request, fence, $fenced),)*
                }
            }

            /// Whether it changes something.
            pub fn is_change(&self) -> bool {
                match self {
                    $(Request::$name(_) => $fenced,)*
                }
            }

            /// Sends it through a client of gRPC.
            pub(super) async fn send(
                self,
                client: &mut proto::control_client::ControlClient<tonic::transport::Channel>,
            ) -> Result<Response, tonic::Status> {
                match self {
                    $(Request::$name(request) => {
                        client.$method(request).await.map(|answer| Response::$name(answer.into_inner()))
                    })*
                }
            }
        }

        $(
            impl Call for proto::$request {
                type Answer = proto::$response;

                fn into_request(self) -> Request {
                    Request::$name(self)
                }

                fn answer(response: Response) -> Option<Self::Answer> {
                    match response {
                        Response::$name(answer) => Some(answer),
                        _ => None,
                    }
                }
            }
        )*
    };
    (@fence $request:ident, $fence:ident, true) => {
        $request.fence = Some($fence)
    };
    (@fence $request:ident, $fence:ident, false) => {{
        let _ = ($request, &$fence);
    }};
}

calls! {
    GetInfo, GetInfoRequest, GetInfoResponse, get_info, QUICK, false;
    EnsureWorkspace, EnsureWorkspaceRequest, EnsureWorkspaceResponse, ensure_workspace, CHANGE, true;
    GetWorkspace, GetManagedWorkspaceRequest, GetManagedWorkspaceResponse, get_workspace, QUICK, false;
    DeleteWorkspace, DeleteManagedWorkspaceRequest, DeleteManagedWorkspaceResponse, delete_workspace, CHANGE, true;
    ReleaseWorkspace, ReleaseWorkspaceRequest, ReleaseWorkspaceResponse, release_workspace, CHANGE, true;
    EnsureSnapshot, EnsureSnapshotRequest, EnsureSnapshotResponse, ensure_snapshot, CHANGE, true;
    GetSnapshotByKey, GetSnapshotByKeyRequest, GetSnapshotByKeyResponse, get_snapshot_by_key, QUICK, false;
    DeleteSnapshot, DeleteManagedSnapshotRequest, DeleteManagedSnapshotResponse, delete_snapshot, CHANGE, true;
    VerifySnapshot, VerifySnapshotRequest, VerifySnapshotResponse, verify_snapshot, CHANGE, true;
    PlanRestore, PlanRestoreRequest, PlanRestoreResponse, plan_restore, CHANGE, false;
    EnsureRestore, EnsureRestoreRequest, EnsureRestoreResponse, ensure_restore, CHANGE, true;
    GetRestoreByKey, GetRestoreByKeyRequest, GetRestoreByKeyResponse, get_restore_by_key, QUICK, false;
    ForgetRestore, ForgetRestoreRequest, ForgetRestoreResponse, forget_restore, CHANGE, true;
    Drain, DrainRequest, DrainResponse, drain, CHANGE, true;
    Resume, ResumeRequest, ResumeResponse, resume, CHANGE, true;
}

#[cfg(test)]
mod tests {
    use cairn_api::proto;

    use super::{Call, Request, Response};

    #[test]
    fn changes_carry_the_fence_and_looks_do_not() {
        let fence = proto::Fence {
            cluster: "c".to_owned(),
            generation: 7,
            instance: "i".to_owned(),
        };
        let mut change = proto::ReleaseWorkspaceRequest::default().into_request();
        change.set_fence(fence.clone());
        let expected = proto::ReleaseWorkspaceRequest {
            fence: Some(fence.clone()),
            ..Default::default()
        };
        assert_eq!(change, Request::ReleaseWorkspace(expected));
        let mut look = proto::GetInfoRequest::default().into_request();
        look.set_fence(fence);
        assert!(!look.is_change() && change.is_change());
        assert_eq!(look.name(), "GetInfo");
        assert!(proto::GetInfoRequest::answer(Response::Drain(Default::default())).is_none());
    }
}
