//! The real clock, the real randomness, and who asks: what repositories of plain directories work with. Nothing else in `cairn` asks the
//! operating system for either.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use cairn_snapshot::repository::{Host, LeaseTimes, Parts, SystemTicks};
use cairn_types::{Clock, Randomness, Timestamp};
use tokio::runtime::{Builder, Handle, Runtime};

/// Most bytes of /etc/passwd that are looked through for a name.
const PASSWD_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a user, in bytes; the repository's bound is higher.
const NAME_BYTES_MAX: usize = 256;

/// The wall clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is where the clock of repositories comes from"
    )]
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            // Seconds since 1970 fit 63 bits for the next 292 billion years.
            Ok(since) => Timestamp::new(since.as_secs() as i64, since.subsec_nanos()),
            // A clock before 1970 is a machine without a battery: any early time serves.
            Err(_) => Timestamp::new(0, 0),
        }
    }
}

/// The operating system's randomness (getrandom(2)).
#[derive(Debug, Clone, Copy, Default)]
struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, buffer: &mut [u8]) {
        // Fails only where the call does not exist, on kernels before 3.17.
        getrandom::fill(buffer).expect("getrandom(2) exists on every supported kernel and does not fail");
    }
}

/// Threads that make requests to object stores.
const RUNTIME_THREADS: usize = 2;

/// Where requests to object stores run, whatever thread waits for them. Made once; it ends with the process.
fn runtime() -> std::io::Result<Handle> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let made = Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("requests")
        .enable_all()
        .build()?;
    Ok(RUNTIME.get_or_init(|| made).handle().clone())
}

/// What a repository works with in this process. Errors: `/proc` cannot be read; a thread cannot be started.
pub fn parts() -> std::io::Result<Parts> {
    Ok(Parts {
        runtime: Some(runtime()?),
        clock: Arc::new(SystemClock),
        randomness: Arc::new(SystemRandomness),
        ticks: Arc::new(SystemTicks::new()),
        host: Host::detect()?,
        actor: actor(),
        lease_times: LeaseTimes::default(),
    })
}

/// The most memory that this process has had resident at once, in bytes (`VmHWM` of proc(5)); 0 if the kernel does not tell.
pub fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.map_or(0, |kibibytes| kibibytes << 10)
}

/// The name of the user that this process belongs to. Other sources of users than /etc/passwd are believed through the
/// environment: the name is for people, and decides nothing.
pub fn actor() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let mut passwd = String::new();
    let file = std::fs::File::open("/etc/passwd");
    let read = file.and_then(|file| file.take(PASSWD_BYTES_MAX).read_to_string(&mut passwd));
    let listed = read.ok().and_then(|_| name_in(&passwd, uid));
    let told = || {
        ["LOGNAME", "USER"]
            .iter()
            .find_map(|name| std::env::var(name).ok())
    };
    listed
        .or_else(told)
        .filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
        .unwrap_or_else(|| format!("uid {uid}"))
}

/// The name of a user in a text of the form of passwd(5).
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use cairn_types::{Clock, Randomness};

    use super::{SystemClock, SystemRandomness, memory_peak, name_in, parts};

    #[test]
    fn clock_and_randomness_are_real() {
        assert!(SystemClock.now().seconds() > 1_700_000_000);
        let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
        SystemRandomness.fill(&mut a);
        SystemRandomness.fill(&mut b);
        assert_ne!(a, b);
        assert!(memory_peak() > 1 << 20, "{}", memory_peak());
    }

    #[test]
    fn users_have_names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbroken\na:x:7\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_in(passwd, 7).as_deref(), Some("a"));
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("me"));
        assert_eq!(name_in(passwd, 1), None);
        assert!(!parts().unwrap().actor.is_empty());
    }
}
