//! What the kernel-client tests have in common: whether they run, what they run against, and the shell functions that
//! their scripts may use.
//!
//! They run with `CAIRN_E2E_KERNEL=1` (which `make e2e` sets). If they are wanted and this machine cannot run guests, that
//! is a failure with `CI=true` and a note on standard error elsewhere.
//!
//! With `CAIRN_E2E_CONTROL=ADDRESS:PORT:/EXPORT[:OPTIONS]` the tests that need nothing but an export run against that
//! server instead: what fails there too is a mistake of the test.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::daemon::Daemon;
use crate::guest::{Guest, GuestSettings, Mount, Output, Share};

/// How long a script may take if a test does not say otherwise.
pub const SCRIPT_TIMEOUT: Duration = Duration::from_secs(300);

/// The workspace that every test gets.
pub const WORKSPACE: &str = "main";

/// Begins every script. The working directory is the first mount.
const PRELUDE: &str = r#"set -euo pipefail
fail() { echo "failed: $*" >&2; exit 1; }
same() { [ "$1" = "$2" ] || fail "${3:-values differ}: '$1' is not '$2'"; }
refused() { if "$@" 2>/tmp/refused; then fail "was not refused: $*"; fi; }
tell() { : >"/cairn/$1"; }
await() { until [ -e "/cairn/$1" ]; do sleep 0.02; done; }
forget() { sync; echo 3 >/proc/sys/vm/drop_caches; }
on_error() { echo "failed in line $1: $2" >&2; }
trap 'on_error $LINENO "$BASH_COMMAND"' ERR
"#;

/// Whether kernel-client tests run here. `Ok(false)` has said why not.
pub fn wanted(test: &str) -> anyhow::Result<bool> {
    let skip = |why: &str| {
        // Not eprintln: the harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
    };
    if std::env::var_os("CAIRN_E2E_KERNEL").is_none_or(|value| value != "1") {
        skip("kernel-client tests run in `make e2e`");
        return Ok(false);
    }
    match Guest::check() {
        Ok(()) => Ok(true),
        Err(error) if std::env::var_os("CI").is_some_and(|value| value == "true") => {
            Err(error).context("CI=true, and a suite that cannot run is a failure")
        }
        Err(error) => {
            skip(&error.to_string());
            Ok(false)
        }
    }
}

/// The server of one test.
#[derive(Debug)]
pub struct Server {
    daemon: Option<Daemon>,
    mount: Mount,
}

impl Server {
    /// A daemon with the workspace [`WORKSPACE`], or the control server; `None` if the test is skipped.
    pub fn start(test: &str) -> anyhow::Result<Option<Self>> {
        if !wanted(test)? {
            return Ok(None);
        }
        match std::env::var("CAIRN_E2E_CONTROL") {
            Ok(control) => {
                let server = Server {
                    daemon: None,
                    mount: control_mount(&control)?,
                };
                Ok(Some(server))
            }
            Err(_) => Self::own().map(Some),
        }
    }

    /// As [`Self::start`], for a test that handles the daemon; skipped with a control server.
    pub fn start_own(test: &str) -> anyhow::Result<Option<Self>> {
        if !wanted(test)? || std::env::var_os("CAIRN_E2E_CONTROL").is_some() {
            return Ok(None);
        }
        Self::own().map(Some)
    }

    fn own() -> anyhow::Result<Self> {
        let daemon = Daemon::start()?;
        daemon.cairn(&["workspace", "create", WORKSPACE])?;
        let mount = Mount::new(daemon.nfs(), format!("/{WORKSPACE}"));
        Ok(Server {
            daemon: Some(daemon),
            mount,
        })
    }

    /// The export, to be mounted at `/mnt`.
    pub fn mount(&self) -> Mount {
        self.mount.clone()
    }

    /// The daemon.
    pub fn daemon(&mut self) -> anyhow::Result<&mut Daemon> {
        self.daemon.as_mut().context("a control server has no daemon")
    }

    /// Runs a script in a guest that has mounted the export, in a fresh directory of it.
    pub fn run(&self, script: &str, shares: &[Share]) -> anyhow::Result<Output> {
        let settings = GuestSettings {
            mounts: vec![self.mount()],
            shares: shares.to_vec(),
            timeout: SCRIPT_TIMEOUT,
        };
        Ok(start_guest(&settings, &in_fresh_directory(script))?.wait()?)
    }
}

/// The script in a directory of its own below the mount.
pub fn in_fresh_directory(script: &str) -> String {
    format!("cd \"$(mktemp -d test.XXXXXX)\"\n{script}")
}

/// Boots a guest whose script may use the functions of the prelude.
pub fn start_guest(settings: &GuestSettings, script: &str) -> anyhow::Result<Guest> {
    Ok(Guest::start(settings, &format!("{PRELUDE}{script}"))?)
}

/// `ADDRESS:PORT:/EXPORT[:OPTIONS]`
fn control_mount(text: &str) -> anyhow::Result<Mount> {
    let mut parts = text.splitn(4, ':');
    let (Some(address), Some(port), Some(export)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("CAIRN_E2E_CONTROL wants ADDRESS:PORT:/EXPORT[:OPTIONS], not {text:?}");
    };
    let server = format!("{address}:{port}").parse().context("CAIRN_E2E_CONTROL")?;
    Ok(Mount::new(server, export).with(parts.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_server_has_address_export_and_options() {
        let mount = control_mount("127.0.0.1:2049:/export/a:mountport=20048,noac").unwrap();
        assert_eq!(mount.server, "127.0.0.1:2049".parse().unwrap());
        assert_eq!(mount.export, "/export/a");
        assert_eq!(mount.options, "mountport=20048,noac");
        assert!(control_mount("127.0.0.1:/export").is_err());
    }
}
