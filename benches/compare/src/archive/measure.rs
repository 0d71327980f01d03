//! What running a program costs: wall time, processor time, memory.
//!
//! Programs run under GNU time, which reports what wait4(2) says of them (children that they waited for included). Started
//! from here directly, a program would begin with the peak memory of this process, which fork(2) copies. A daemon that goes
//! on running is measured by what its counters in `/proc` say before and after.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// No program may run for longer.
const LIMIT: Duration = Duration::from_secs(3600);
/// How much of what a failed program wrote is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 2000;

/// How often it is looked whether a running program shall be ended early. Its own end is noticed at once.
const STOP_INTERVAL: Duration = Duration::from_millis(200);

/// Whether no more programs shall run.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Ends the program that runs, if one does, and lets no other be started.
pub fn stop() {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Whether [`stop`] was called.
pub fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// What something cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Most memory resident at a time, in bytes.
    pub peak_bytes: u64,
}

impl Cost {
    /// One after the other.
    pub fn then(self, other: Cost) -> Cost {
        Cost {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }
}

/// A program that is run again and again, in an environment of its own: nothing of this process's but the path.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    environment: Vec<(String, OsString)>,
    scratch: PathBuf,
}

/// What a program printed, and what it cost.
#[derive(Debug)]
pub struct Finished {
    /// Its standard output.
    pub output: String,
    /// What it cost.
    pub cost: Cost,
}

impl Tool {
    /// `program`, whose home and temporary files are in `scratch`, a directory that is there.
    pub fn new(program: PathBuf, scratch: &Path) -> Self {
        let tool = Tool {
            program,
            environment: Vec::new(),
            scratch: scratch.to_owned(),
        };
        tool.with("PATH", std::env::var_os("PATH").unwrap_or_default())
            .with("HOME", scratch)
            .with("TMPDIR", scratch)
            .with("LC_ALL", "C.UTF-8")
    }

    /// With a variable of the environment.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in `directory` and waits for its end. It fails if the program does.
    pub fn run<S: AsRef<OsStr>>(&self, directory: &Path, arguments: &[S]) -> anyhow::Result<Finished> {
        let shown = || {
            let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
            let name = self.program.file_name().unwrap_or_default().to_string_lossy();
            std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
        };
        ensure!(!stopped(), "interrupted");
        let paths = ["usage", "output", "errors"].map(|name| self.scratch.join(name));
        let [usage, output, errors] = &paths;
        let mut command = Command::new("time");
        command
            .args(["--quiet", "--format=%U %S %M", "--output"])
            .arg(usage)
            .arg("--")
            .arg(&self.program)
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(output)?)
            .stderr(File::create(errors)?);
        let started = Instant::now();
        let mut child = command
            .spawn()
            .context("GNU time cannot be started: `make compare ARGS=archive` installs it")?;
        let in_time = ended_within(&child, LIMIT)?;
        let wall = started.elapsed();
        if !in_time {
            end(&mut child)?;
            ensure!(!stopped(), "interrupted");
            bail!("`{}` did not end within {LIMIT:?}", shown());
        }
        let status = child.wait()?;
        if !status.success() {
            let text = [fs::read(errors)?, fs::read(output)?].concat();
            let text = &text[text.len().saturating_sub(SHOWN_BYTES_MAX)..];
            bail!(
                "`{}` ended with {status}:\n{}",
                shown(),
                String::from_utf8_lossy(text).trim()
            );
        }
        let usage = fs::read_to_string(usage).context("reading what GNU time wrote")?;
        let (cpu, peak_bytes) = parse_usage(&usage).with_context(|| format!("GNU time wrote {usage:?}"))?;
        let output = String::from_utf8_lossy(&fs::read(output)?).into_owned();
        let cost = Cost {
            wall,
            cpu,
            peak_bytes,
        };
        Ok(Finished { output, cost })
    }
}

/// Seconds in user mode and in the kernel, and KiB at the peak.
fn parse_usage(text: &str) -> Option<(Duration, u64)> {
    let mut words = text.lines().last()?.split(' ');
    let mut seconds = || words.next()?.parse::<f64>().ok();
    let cpu = Duration::try_from_secs_f64(seconds()? + seconds()?).ok()?;
    Some((cpu, words.next()?.parse::<u64>().ok()? << 10))
}

/// Whether a child ended in time, and before all was to stop. It is not waited for.
fn ended_within(child: &Child, limit: Duration) -> anyhow::Result<bool> {
    let pid = Pid::from_raw(child.id() as i32).context("a child without a number")?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let pause = Timespec::try_from(left.min(STOP_INTERVAL))?;
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&pause)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(ready) if ready > 0 => return Ok(true),
            Ok(_) if left.is_zero() || stopped() => return Ok(false),
            Ok(_) => {}
        }
    }
}

/// Ends GNU time and what it started.
fn end(time: &mut Child) -> anyhow::Result<()> {
    let id = time.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    for child in children
        .split_whitespace()
        .filter_map(|child| Pid::from_raw(child.parse().ok()?))
    {
        // An error means that it has ended meanwhile.
        let _ = kill_process(child, Signal::KILL);
    }
    let _ = time.kill();
    time.wait()?;
    Ok(())
}

/// A look at the counters of a process that goes on running.
#[derive(Debug)]
pub struct Watch {
    process: u32,
    started: Instant,
    cpu: Duration,
}

impl Watch {
    /// Begins; the kernel forgets the process's peak of memory (proc_pid_clear_refs(5)).
    pub fn begin(process: u32) -> anyhow::Result<Self> {
        fs::write(format!("/proc/{process}/clear_refs"), "5").context("resetting the peak of memory")?;
        Ok(Watch {
            process,
            cpu: cpu(process)?,
            started: Instant::now(),
        })
    }

    /// What it cost since then.
    pub fn end(self) -> anyhow::Result<Cost> {
        let wall = self.started.elapsed();
        let status = fs::read_to_string(format!("/proc/{}/status", self.process))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(Cost {
            wall,
            cpu: cpu(self.process)?.saturating_sub(self.cpu),
            peak_bytes: peak.context("no peak of memory in /proc/PID/status")? << 10,
        })
    }
}

/// The processor time of a process with all its threads so far, in the kernel's ticks (proc_pid_stat(5)).
fn cpu(process: u32) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = parse_ticks(&text).with_context(|| format!("/proc/{process}/stat is {text:?}"))?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn parse_ticks(text: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything; fields 14 and 15 are counted from behind it.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

/// Bytes of the regular files below a directory; what vanishes meanwhile is left out.
pub fn stored_bytes(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(error) => ensure!(error.kind() == std::io::ErrorKind::NotFound, error),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{Tool, Watch, parse_ticks, parse_usage, stored_bytes};

    #[test]
    fn what_the_kernel_says_is_understood() {
        assert_eq!(
            parse_usage("0.25 1.50 2048\n"),
            Some((Duration::from_millis(1750), 2048 << 10))
        );
        assert_eq!(
            parse_usage("Command exited\n0.00 0.01 7\n"),
            Some((Duration::from_millis(10), 7 << 10))
        );
        assert_eq!(parse_usage("0.25\n"), None);
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_ticks(stat), Some(42));
    }

    #[test]
    fn a_program_is_measured_and_its_failure_told() -> anyhow::Result<()> {
        let scratch = tempfile::tempdir()?;
        let tool = Tool::new("/bin/sh".into(), scratch.path()).with("WORD", "said");
        let done = tool.run(
            Path::new("/"),
            &[
                "-c",
                "echo $WORD in $(pwd); i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done",
            ],
        )?;
        assert_eq!(done.output, "said in /\n");
        assert!(
            done.cost.cpu > Duration::ZERO && done.cost.cpu <= done.cost.wall + Duration::from_millis(20)
        );
        assert!(
            (100 << 10..64 << 20).contains(&done.cost.peak_bytes),
            "{:?}",
            done.cost
        );
        let failed = tool.run(Path::new("/"), &["-c", "echo why >&2; exit 3"]);
        let failed = failed.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(failed.contains("why") && failed.contains('3'), "{failed}");
        assert!(stored_bytes(scratch.path())? > 0);
        Ok(())
    }

    #[test]
    fn a_running_process_is_watched() -> anyhow::Result<()> {
        let watch = Watch::begin(std::process::id())?;
        let memory = std::hint::black_box(vec![1u8; 64 << 20]);
        let cost = watch.end()?;
        assert!(cost.peak_bytes >= memory.len() as u64);
        Ok(())
    }
}
