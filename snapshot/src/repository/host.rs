//! Which process on which machine does something, and whether it is certain that such a process has ended.

use std::io;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// A process, as others know it: on this machine, on another one, or in another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Name of the machine, for people.
    pub name: String,
    /// The kernel's name of the time since its start (`/proc/sys/kernel/random/boot_id`); empty if it has none.
    pub boot: String,
    /// The namespaces in which process numbers and start times mean something (pid and time namespaces(7)); empty if not known.
    pub namespaces: String,
    /// Number of the process.
    pub pid: u32,
    /// When it started, in clock ticks since the start of the machine (field 22 of `/proc/PID/stat`): tells processes of the same number apart.
    pub started: u64,
}

impl Host {
    /// Longest text of a field, in bytes.
    pub const TEXT_BYTES_MAX: usize = 1024;

    /// This process. Errors: its own entry in `/proc` cannot be read.
    pub fn detect() -> io::Result<Host> {
        let pid = std::process::id();
        let started = start_of(pid)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Host {
            name,
            boot: boot.trim().to_owned(),
            namespaces: namespaces().unwrap_or_default(),
            pid,
            started,
        })
    }

    /// Whether `other` is a process of this very machine and container, and has ended. `false` means: it runs, or nobody here can tell.
    pub fn knows_ended(&self, other: &Host) -> bool {
        let comparable = !self.boot.is_empty()
            && !self.namespaces.is_empty()
            && self.boot == other.boot
            && self.namespaces == other.namespaces;
        if !comparable {
            return false;
        }
        let Some(pid) = i32::try_from(other.pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        // A signal finds processes whose entry in /proc is hidden from other users.
        if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return true;
        }
        matches!(start_of(other.pid), Ok(Some(started)) if started != other.started)
    }

    /// Looks for texts that are too long. Errors: which.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (what, text) in [
            ("name", &self.name),
            ("boot", &self.boot),
            ("namespaces", &self.namespaces),
        ] {
            if text.len() > Self::TEXT_BYTES_MAX {
                return Err(format!(
                    "{what} of a host has more than {} bytes",
                    Self::TEXT_BYTES_MAX
                ));
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.pid, self.name)
    }
}

fn namespaces() -> io::Result<String> {
    let of = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}"));
    let pid = of("pid")?;
    // Kernels before 5.6 have no time namespaces.
    let time = of("time").unwrap_or_default();
    Ok(format!("{} {}", pid.display(), time.display()).trim().to_owned())
}

/// The start time of a process; nothing if it has no entry that we can see. One that has ended and was not waited for yet has one.
fn start_of(pid: u32) -> io::Result<Option<u64>> {
    let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name of the program, in parentheses, may hold anything; what follows it begins with field 3.
    let (_, rest) = stat
        .rsplit_once(')')
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let started = rest
        .split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok());
    started
        .map(Some)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn this_process_is_known_to_run() {
        let me = Host::detect().unwrap();
        assert!(me.started > 0 && !me.boot.is_empty() && !me.namespaces.is_empty());
        assert!(!me.knows_ended(&me));
    }

    #[test]
    fn a_process_that_has_ended_is_known_on_its_own_machine_only() {
        let me = Host::detect().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let ended = Host {
            pid,
            started: 1,
            ..me.clone()
        };
        assert!(me.knows_ended(&ended));
        // The number is in use again: by this process.
        assert!(me.knows_ended(&Host {
            pid: me.pid,
            ..ended.clone()
        }));
        for elsewhere in [
            Host {
                boot: "other".to_owned(),
                ..ended.clone()
            },
            Host {
                namespaces: "pid:[1]".to_owned(),
                ..ended.clone()
            },
            Host {
                boot: String::new(),
                ..ended.clone()
            },
        ] {
            assert!(!me.knows_ended(&elsewhere));
        }
    }
}
