//! NFS as long as the node is not drained: served, stopped in order while it is, and served again on the same socket.
//!
//! The socket stays bound all the time. Clients that connect while nothing is served wait in the kernel's backlog; with the option
//! `hard` an application notices nothing but time.

use std::io;
use std::sync::Arc;

use cairn_nfs::ServerError;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::assembly::Stores;
use crate::control::Draining;

/// Why NFS is not served any more.
#[derive(Debug, thiserror::Error)]
pub enum NfsServiceError {
    /// The listener cannot be used.
    #[error("the listener cannot be used: {0}")]
    Listener(#[source] io::Error),
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Serves NFS on `listener` until `stop` ends and what was begun is finished, or has had its time.
///
/// # Errors
/// Every variant of [`NfsServiceError`].
pub async fn serve(
    stores: Arc<Stores>,
    listener: TcpListener,
    draining: Arc<Draining>,
    mut stop: impl Future<Output = ()> + Unpin,
) -> Result<(), NfsServiceError> {
    let listener = listener.into_std().map_err(NfsServiceError::Listener)?;
    let mut wanted = draining.wanted();
    loop {
        tokio::select! {
            // An error means that the node is gone, and with it this.
            resumed = wanted.wait_for(|drain| !*drain) => drop(resumed),
            () = &mut stop => return Ok(()),
        }
        let again = listener.try_clone().map_err(NfsServiceError::Listener)?;
        let again = TcpListener::from_std(again).map_err(NfsServiceError::Listener)?;
        let (end, mut ends) = watch::channel(false);
        draining.set_nfs_stopped(false);
        let mut serving = std::pin::pin!(stores.serve_nfs(again, async move {
            // An error means that the sender is gone: that is a reason to end too.
            let _ = ends.wait_for(|end| *end).await;
        }));
        let stopping = tokio::select! {
            served = &mut serving => return served.map_err(Into::into),
            drained = wanted.wait_for(|drain| *drain) => {
                drop(drained);
                false
            }
            () = &mut stop => true,
        };
        end.send_replace(true);
        serving.await?;
        draining.set_nfs_stopped(true);
        if stopping {
            return Ok(());
        }
        tracing::info!("NFS is drained: no connection is left");
    }
}
