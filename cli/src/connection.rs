//! Finding the daemon.

use std::path::PathBuf;

use cairn_api::location::{Surroundings, default_data_directory, default_socket};
use cairn_api::{ApiError, Client, Reason};

/// The socket to connect to: the one that was given, or that of the default data directory, which is the same as
/// cairnd's for the same user.
pub fn socket(given: Option<PathBuf>, surroundings: &Surroundings) -> Result<PathBuf, ApiError> {
    given
        .or_else(|| default_data_directory(surroundings).map(|directory| default_socket(&directory)))
        .ok_or_else(|| {
            ApiError::new(
                Reason::DaemonUnreachable,
                "neither XDG_DATA_HOME nor HOME tells where cairnd's socket is",
            )
            .remedy("name it with --socket or CAIRN_SOCKET")
        })
}

/// Connects to the daemon.
pub async fn connect(given: Option<PathBuf>) -> Result<Client, ApiError> {
    let surroundings = Surroundings {
        root: rustix::process::geteuid().is_root(),
        xdg_data_home: std::env::var_os("XDG_DATA_HOME"),
        home: std::env::var_os("HOME"),
    };
    Client::connect(&socket(given, &surroundings)?).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cairn_api::Reason;
    use cairn_api::location::Surroundings;

    use super::socket;

    #[test]
    fn what_is_given_wins_over_the_default() {
        let root = Surroundings {
            root: true,
            ..Surroundings::default()
        };
        assert_eq!(socket(Some("/s".into()), &root).unwrap(), Path::new("/s"));
        assert_eq!(
            socket(None, &root).unwrap(),
            Path::new("/var/lib/cairn/cairnd.sock")
        );
        let error = socket(None, &Surroundings::default()).unwrap_err();
        assert_eq!(error.reason, Reason::DaemonUnreachable);
        assert!(error.remedy.contains("--socket"));
    }
}
