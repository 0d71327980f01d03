//! The guest's network: one tap device per guest.
//!
//! Guest number N is `127.201.N.2` to this machine, and the loopback addresses of its servers are routed into the tap in
//! the guest. With `route_localnet` on both ends, packets from and to loopback addresses may cross it: a server that
//! listens on 127.0.0.1 alone is reached as it is, and sees a loopback address as its peer. Routing, firewall and
//! forwarding of this machine are not touched; the device goes with its [`Tap`]. What a killed process leaves is removed
//! by the next one that takes the same number.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use super::error::{GuestError, system};

/// Guests that can run at once.
pub const GUESTS_MAX: u8 = 64;

/// Where the locks on guest numbers lie.
const SLOTS: &str = "/run/cairn-guest";

/// Whether this machine lets us make tap devices.
pub(super) fn check() -> Result<(), GuestError> {
    if !rustix::process::geteuid().is_root() {
        return Err(GuestError::Unavailable("they need root, for a tap device"));
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err(GuestError::Unavailable("there is no /dev/net/tun"));
    }
    if !cfg!(target_arch = "x86_64") {
        return Err(GuestError::Unavailable("User-Mode Linux exists for x86-64 only"));
    }
    Ok(())
}

/// A tap device, up and routed.
#[derive(Debug)]
pub(super) struct Tap {
    number: u8,
    /// Held as long as the number is in use.
    _slot: File,
}

impl Tap {
    /// Takes a free number and makes its device.
    pub(super) fn make() -> Result<Self, GuestError> {
        std::fs::create_dir_all(SLOTS).map_err(system(SLOTS))?;
        for number in 0..GUESTS_MAX {
            let path = format!("{SLOTS}/{number}");
            let slot = File::create(&path).map_err(system(path))?;
            if flock(&slot, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let tap = Tap { number, _slot: slot };
                tap.set_up()?;
                return Ok(tap);
            }
        }
        Err(GuestError::TooMany(GUESTS_MAX))
    }

    fn set_up(&self) -> Result<(), GuestError> {
        let device = self.device();
        if Path::new(&format!("/sys/class/net/{device}")).exists() {
            ip(&["link", "del", &device])?;
        }
        ip(&["tuntap", "add", "dev", &device, "mode", "tap"])?;
        let ipv6 = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        if Path::new(&ipv6).exists() {
            std::fs::write(&ipv6, "1").map_err(system(ipv6))?;
        }
        let localnet = format!("/proc/sys/net/ipv4/conf/{device}/route_localnet");
        std::fs::write(&localnet, "1").map_err(system(localnet))?;
        let address = self.guest_address().to_string();
        ip(&[
            "link",
            "set",
            &device,
            "address",
            &self.host_mac(),
            "txqueuelen",
            "2000",
            "up",
        ])?;
        ip(&[
            "neigh",
            "add",
            &address,
            "lladdr",
            &self.guest_mac(),
            "dev",
            &device,
            "nud",
            "permanent",
        ])?;
        ip(&[
            "route",
            "add",
            &format!("{address}/32"),
            "dev",
            &device,
            "table",
            "local",
        ])
    }

    pub(super) fn device(&self) -> String {
        format!("cairng{}", self.number)
    }

    pub(super) fn guest_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 201, self.number, 2)
    }

    pub(super) fn guest_mac(&self) -> String {
        format!("02:63:61:69:72:{:02x}", self.number)
    }

    pub(super) fn host_mac(&self) -> String {
        format!("02:63:61:69:73:{:02x}", self.number)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next that takes the number.
        let _ = ip(&["link", "del", &self.device()]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), GuestError> {
    let command = format!("ip {}", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(system(command.clone()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(GuestError::Command {
            command,
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}
