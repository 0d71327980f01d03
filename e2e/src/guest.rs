//! A Linux kernel NFS client: a User-Mode-Linux guest that mounts servers of this machine's loopback and runs a script.
//!
//! Owns the guest's whole life: the image (built on first use by `guest/build`), the tap device, the process, the
//! directory through which settings go in and results come out. Invariants: every guest starts from the same read-only
//! image and leaves nothing behind but what it wrote to the server and to shared directories; the process ends with the
//! [`Guest`] and with the thread that started it; any number up to [`network::GUESTS_MAX`] runs at once.
//! It needs root, for the tap device. It does not know what the server is.

mod error;
mod network;
mod settings;

pub use error::GuestError;
pub use settings::{GuestSettings, Mount, Share};

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use error::system;
use network::Tap;

/// What boot, mounts, unmounting and power-off may take together, beyond the script's own limit.
const OVERHEAD: Duration = Duration::from_secs(240);
/// Pause between two looks at a file or a process.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// The guest's memory.
const MEMORY_MIB: u32 = 512;
/// Bytes of a log that an error shows.
const LOG_BYTES_SHOWN: usize = 2000;
/// The guest's first script.
const INIT: &str = include_str!("../guest/init");

/// How a guest's script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself, with this exit status.
    Exit(i32),
    /// The time limit ended it.
    Limit,
    /// It succeeded, but a mount could not be unmounted: not everything it wrote has reached the server.
    Unmount,
}

/// What a guest's script left.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub ending: Ending,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error, and the guest's own remarks.
    pub stderr: String,
    /// What the guest's kernel complained about: bugs and warnings. Empty in a good run.
    pub trouble: String,
}

impl Output {
    /// Whether the script succeeded, everything was unmounted, and the kernel had nothing to complain about.
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Exit(0) && self.trouble.is_empty()
    }

    /// The standard output if the run was a success.
    ///
    /// # Panics
    ///
    /// With everything the guest said if it was not: for tests.
    #[track_caller]
    pub fn expect_success(&self) -> &str {
        assert!(
            self.is_success(),
            "the guest's script ended with {:?}\n-- standard error\n{}\n-- standard output\n{}\n-- kernel\n{}",
            self.ending,
            self.stderr,
            self.stdout,
            self.trouble,
        );
        &self.stdout
    }
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    tap: Tap,
    directory: TempDir,
    deadline: Instant,
}

impl Guest {
    /// Whether this machine can run guests; the error says what is missing.
    pub fn check() -> Result<(), GuestError> {
        network::check()
    }

    /// Boots a guest, waits for its script and gives what it left.
    pub fn run(
        mounts: &[Mount],
        script: &str,
        timeout: Duration,
        shares: &[Share],
    ) -> Result<Output, GuestError> {
        let settings = GuestSettings {
            mounts: mounts.to_vec(),
            shares: shares.to_vec(),
            timeout,
        };
        Self::start(&settings, script)?.wait()
    }

    /// Boots a guest with `script`, which runs in bash in the first mount's directory. Does not wait.
    pub fn start(settings: &GuestSettings, script: &str) -> Result<Self, GuestError> {
        Self::check()?;
        let image = image()?;
        let directory = tempfile::Builder::new().prefix("cairn-guest.").tempdir();
        let directory = directory.map_err(system("making the guest's directory"))?;
        let tap = Tap::make()?;
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text)
                .map_err(system(format!("writing the guest's {name}")))
        };
        write("init", INIT)?;
        write("settings", &settings.to_shell(&tap))?;
        write("script", script)?;
        let child = start_kernel(&image, directory.path(), &tap)?;
        Ok(Guest {
            child,
            tap,
            directory,
            deadline: Instant::now() + settings.timeout + OVERHEAD,
        })
    }

    /// The directory that the guest sees as `/cairn`. Files that either side makes there, the other sees at once.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The address that servers see as the guest's.
    pub fn address(&self) -> std::net::Ipv4Addr {
        self.tap.guest_address()
    }

    /// Waits until the guest has made the file `/cairn/NAME`.
    pub fn wait_for(&mut self, name: &str) -> Result<(), GuestError> {
        loop {
            if self.directory.path().join(name).exists() {
                return Ok(());
            }
            if self.ended()?.is_some() || self.file("status").is_some() {
                let what = format!("ended without making {name}");
                return Err(self.broken(what));
            }
            self.pause()?;
        }
    }

    /// Makes the file `/cairn/NAME`, for a script that waits for it.
    pub fn tell(&self, name: &str) -> Result<(), GuestError> {
        std::fs::write(self.directory.path().join(name), "").map_err(system("writing to the guest"))
    }

    /// Waits for the end of the script and of the guest.
    pub fn wait(mut self) -> Result<Output, GuestError> {
        while self.ended()?.is_none() && self.file("status").is_none() {
            self.pause()?;
        }
        // The status is there: the guest powers itself off, and what is not finished by then needs no more waiting.
        let Some(status) = self.file("status") else {
            return Err(self.broken("ended before its script did".to_owned()));
        };
        let ending = match status.trim() {
            "limit" => Ending::Limit,
            "unmount" => Ending::Unmount,
            number => match number.parse() {
                Ok(number) => Ending::Exit(number),
                Err(_) => return Err(self.broken("could not be set up".to_owned())),
            },
        };
        let text = |name| self.file(name).unwrap_or_default();
        Ok(Output {
            ending,
            stdout: text("stdout"),
            stderr: text("stderr"),
            trouble: text("trouble"),
        })
    }

    fn pause(&self) -> Result<(), GuestError> {
        if Instant::now() > self.deadline {
            return Err(self.broken("did not end within its time limit".to_owned()));
        }
        std::thread::sleep(POLL_PAUSE);
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, GuestError> {
        self.child.try_wait().map_err(system("looking at the guest"))
    }

    fn file(&self, name: &str) -> Option<String> {
        let bytes = std::fs::read(self.directory.path().join(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn broken(&self, what: String) -> GuestError {
        let end = |name| {
            let text = self.file(name).unwrap_or_default();
            let from = text.len().saturating_sub(LOG_BYTES_SHOWN);
            String::from_utf8_lossy(&text.as_bytes()[from..]).into_owned()
        };
        GuestError::Broken {
            what,
            stderr: end("stderr"),
            console: end("console"),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Errors mean that it has ended already. What it runs in ends with this process (unshare --kill-child).
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the image if it is not there; the directory that holds it.
fn image() -> Result<PathBuf, GuestError> {
    let project = crate::project::directory().map_err(system("finding the guest's sources"))?;
    let build = project.join("e2e/guest/build");
    let output = Command::new(&build)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(system(build.display().to_string()))?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    match output.status.success() && path.join("root.img").is_file() {
        true => Ok(path),
        false => Err(GuestError::Image(output.status)),
    }
}

fn start_kernel(image: &Path, directory: &Path, tap: &Tap) -> Result<Child, GuestError> {
    let console =
        std::fs::File::create(directory.join("console")).map_err(system("making the guest's console"))?;
    let second = console
        .try_clone()
        .map_err(system("making the guest's console"))?;
    let shown = directory.display();
    // The kernel has helper processes and leaves its process group: a process namespace keeps them together, and they
    // all go when its first process goes.
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--",
        ])
        .args(["bash", "-c", "\"$@\"; exit", "guest"])
        .arg(image.join("linux"))
        .arg(format!("mem={MEMORY_MIB}M"))
        .arg(format!("ubd0r={}", image.join("root.img").display()))
        .args(["root=/dev/ubda", "rootfstype=ext4", "ro", "init=/sbin/guest-init"])
        .arg(format!("cairn.run={shown}"))
        .arg(format!(
            "vec0:transport=tap,ifname={},depth=64,gro=1,mac={}",
            tap.device(),
            tap.guest_mac()
        ))
        .args([
            "con=null",
            "con0=null,fd:1",
            "ssl=null",
            "panic=-1",
            "noreboot",
            "quiet",
            "seccomp=auto",
        ])
        .arg(format!("uml_dir={shown}"))
        .arg("umid=kernel")
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(second)
        .spawn()
        .map_err(system("starting the guest"))
}
