//! What a guest is started with, and the shell text that tells it so.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::network::Tap;

/// An export that the guest mounts. The first one is the script's working directory.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The server: an IPv4 loopback address of this machine.
    pub server: SocketAddr,
    /// The exported path.
    pub export: String,
    /// Where it is mounted: an absolute path that the image has (`/mnt`, `/mnt2`) or below `/tmp`.
    pub at: String,
    /// Mount options besides the address and `vers=3,tcp,nolock,hard`; empty or separated by commas.
    pub options: String,
    /// There are no other options than `options`, not even the port.
    pub exactly: bool,
}

impl Mount {
    /// The export at `/mnt` with the options that `cairn mount-command` names.
    pub fn new(server: SocketAddr, export: impl Into<String>) -> Self {
        Mount {
            server,
            export: export.into(),
            at: "/mnt".to_owned(),
            options: String::new(),
            exactly: false,
        }
    }

    /// The export at `/mnt`, mounted with these options and no others, as a kubelet mounts a PersistentVolume.
    pub fn exactly(server: SocketAddr, export: impl Into<String>, options: &str) -> Self {
        Mount {
            options: options.to_owned(),
            exactly: true,
            ..Mount::new(server, export)
        }
    }

    /// The same at another place.
    pub fn at(mut self, place: &str) -> Self {
        self.at = place.to_owned();
        self
    }

    /// The same with further options, which win over earlier ones.
    pub fn with(mut self, options: &str) -> Self {
        if !self.options.is_empty() && !options.is_empty() {
            self.options.push(',');
        }
        self.options.push_str(options);
        self
    }

    fn all_options(&self) -> String {
        if self.exactly {
            return self.options.clone();
        }
        let port = self.server.port();
        let more = match self.options.is_empty() {
            true => String::new(),
            false => format!(",{}", self.options),
        };
        format!("vers=3,tcp,port={port},mountport={port},mountproto=tcp,nolock,hard,retry=0{more}")
    }
}

/// A directory of this machine that the guest sees.
#[derive(Debug, Clone)]
pub struct Share {
    /// The directory. No comma in its path.
    pub host: PathBuf,
    /// Where the guest sees it: an absolute path that the image has (`/share`) or below `/tmp`.
    pub guest: String,
    /// Whether the guest may change it.
    pub writable: bool,
}

impl Share {
    /// `host` at `/share`, read-only.
    pub fn read_only(host: impl Into<PathBuf>) -> Self {
        Share {
            host: host.into(),
            guest: "/share".to_owned(),
            writable: false,
        }
    }
}

/// What a guest is started with.
#[derive(Debug, Clone)]
pub struct GuestSettings {
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// What is shared.
    pub shares: Vec<Share>,
    /// How long the script may take.
    pub timeout: Duration,
}

impl GuestSettings {
    /// The settings as bash reads them.
    pub(super) fn to_shell(&self, tap: &Tap) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "guest_address={}", tap.guest_address());
        let _ = writeln!(text, "host_mac={}", tap.host_mac());
        let _ = writeln!(text, "limit_seconds={}", self.timeout.as_secs().max(1));
        let host = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => address.to_string(),
        };
        array(
            &mut text,
            "mount_servers",
            self.mounts.iter().map(|mount| host(&mount.server)),
        );
        array(
            &mut text,
            "mount_exports",
            self.mounts.iter().map(|mount| mount.export.clone()),
        );
        array(
            &mut text,
            "mount_points",
            self.mounts.iter().map(|mount| mount.at.clone()),
        );
        array(
            &mut text,
            "mount_options",
            self.mounts.iter().map(Mount::all_options),
        );
        array(
            &mut text,
            "share_dirs",
            self.shares.iter().map(|share| share.guest.clone()),
        );
        let options = self.shares.iter().map(|share| {
            let access = if share.writable { "rw" } else { "ro" };
            format!("{access},{}", share.host.display())
        });
        array(&mut text, "share_options", options);
        text
    }
}

fn array(text: &mut String, name: &str, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.map(|value| quoted(&value)).collect();
    let _ = writeln!(text, "{name}=({})", values.join(" "));
}

/// The value as one word of a shell.
pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_one_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("$(x)"), "'$(x)'");
    }

    #[test]
    fn further_options_come_last_and_win() {
        let mount = Mount::new("127.0.0.1:2049".parse().unwrap(), "/main")
            .with("noac")
            .with("retry=1");
        assert_eq!(
            mount.all_options(),
            "vers=3,tcp,port=2049,mountport=2049,mountproto=tcp,nolock,hard,retry=0,noac,retry=1"
        );
    }
}
