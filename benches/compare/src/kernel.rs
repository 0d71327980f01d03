//! The same jobs through one Linux kernel client, in a guest, on `cairnd`, on NFS-Ganesha and on nfsserve over our volumes;
//! all on the same disk. Absolute figures are those of a User-Mode-Linux guest: only ratios carry over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_benches::{Node as InProcess, WORKSPACE};
use cairn_e2e::control::Control;
use cairn_e2e::guest::{Guest, Mount, Share};
use cairn_e2e::node::{Node, NodeSettings};
use cairn_vfs::VolumesSettings;
use clap::Args;

use crate::ganesha::Ganesha;
use crate::nfsserve_adapter;
use crate::report::Report;

/// What is measured.
#[derive(Debug, Args)]
pub struct KernelArguments {
    /// Figures of each kind; their median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Size of the file that is written and read, in MiB.
    #[arg(long, default_value_t = 512)]
    size_mib: u64,
    /// Number of small files.
    #[arg(long, default_value_t = 1000)]
    files: usize,
    /// Leave nfsserve out: it is slow, and hangs some clients.
    #[arg(long)]
    without_nfsserve: bool,
}

const OURS: &str = "cairnd";
/// The memory that a subject will need, in sizes of the big file: the file in the page cache, and what is written over it.
const FREE_MEMORY_SHARE: u64 = 3;
/// Memory that lies free for longer may be gone.
const FREE_MEMORY_INTERVAL: Duration = Duration::from_millis(700);
/// One round of one subject takes at most this long.
const LIMIT: Duration = Duration::from_secs(600);

/// The jobs, as the guest runs them in a fresh directory of the mount.
fn script(arguments: &KernelArguments, program: &str) -> String {
    let size = arguments.size_mib;
    let files = arguments.files;
    format!(
        "set -e\n\
         dir=$(mktemp -d run.XXXXXX)\n\
         job() {{ name=$1; shift; fio --name=job --directory=\"$dir\" --filename=file --output-format=terse --terse-version=3 \"$@\" > /tmp/fio; printf 'fio\\t%s\\t%s\\n' \"$name\" \"$(cut -d';' -f7,8,48,49 /tmp/fio)\"; }}\n\
         drop() {{ sync; echo 3 > /proc/sys/vm/drop_caches; }}\n\
         job 'sequential write, fsync, KiB/s' --rw=write --bs=1M --size={size}M --end_fsync=1\n\
         drop\n\
         job 'sequential read, KiB/s' --rw=read --bs=1M --size={size}M\n\
         drop\n\
         job 'random read 4 KiB x16, IOPS' --rw=randread --bs=4k --size={size}M --direct=1 --ioengine=libaio --iodepth=16 --runtime=8 --time_based\n\
         job 'random write 4 KiB x16, IOPS' --rw=randwrite --bs=4k --size={size}M --direct=1 --ioengine=libaio --iodepth=16 --runtime=8 --time_based\n\
         rm \"$dir/file\"\n\
         {program} work \"$dir\" --files {files}\n\
         rmdir \"$dir\"\n"
    )
}

fn measure(
    arguments: &KernelArguments,
    subject: &str,
    mount: Mount,
    report: &mut Report,
) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let share = Share::read_only(program.parent().context("this program has no directory")?);
    let name = program
        .file_name()
        .context("this program has no name")?
        .to_string_lossy()
        .into_owned();
    let script = script(arguments, &format!("{}/{name}", share.guest));
    let output = Guest::run(&[mount], &script, LIMIT, &[share])?;
    for line in output.stdout.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["fio", work, figures] => {
                // read bandwidth; read IOPS; write bandwidth; write IOPS: of a job, two are zero.
                let figures: Vec<f64> = figures
                    .split(';')
                    .filter_map(|figure| figure.parse().ok())
                    .collect();
                let [read_rate, read_iops, write_rate, write_iops] = figures.as_slice() else {
                    bail!("fio's figures of {work} on {subject} are not understood: {line}");
                };
                let figure = if work.contains("IOPS") {
                    read_iops + write_iops
                } else {
                    read_rate + write_rate
                };
                report.add(work, subject, figure);
            }
            [work, figure] => report.add(&format!("{work}/s"), subject, figure.parse()?),
            _ => {}
        }
    }
    if !output.is_success() {
        bail!(
            "the jobs failed on {subject}: {:?}\n{}\n{}",
            output.ending,
            output.stdout,
            output.stderr
        );
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Cairnd,
    Ganesha,
    Nfsserve,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Subject::Cairnd => OURS,
            Subject::Ganesha => "ganesha",
            Subject::Nfsserve => "nfsserve",
        }
    }
}

/// Keeps free memory in use while it lives. On a virtual machine whose host takes back what lies free, the first use of
/// memory costs more than everything that is measured, and whoever comes first pays. Beside this every subject finds memory
/// that is there; what it takes of a core it takes from all alike.
struct FreeMemory {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FreeMemory {
    fn keep(mib: u64) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("free-memory".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    drop(std::hint::black_box(vec![1u8; (mib as usize) << 20]));
                    std::thread::park_timeout(FREE_MEMORY_INTERVAL);
                }
            })?;
        Ok(FreeMemory {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for FreeMemory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot fail but by a panic, which has been printed.
            let _ = thread.join();
        }
    }
}

/// Measures all subjects in turn, round by round.
pub fn run(arguments: &KernelArguments) -> anyhow::Result<()> {
    Guest::check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let directory = cairn_benches::directory()?;
    let mut report = Report::default();
    let mut subjects = vec![Subject::Cairnd, Subject::Ganesha];
    if !arguments.without_nfsserve {
        subjects.push(Subject::Nfsserve);
    }
    let free_memory = FreeMemory::keep(FREE_MEMORY_SHARE * arguments.size_mib)?;
    for round in 0..arguments.rounds {
        for subject in &subjects {
            eprintln!("round {} of {}: {}", round + 1, arguments.rounds, subject.name());
            let data = directory.path().join(format!("{}-{round}", subject.name()));
            std::fs::create_dir(&data)?;
            match subject {
                Subject::Cairnd => on_cairnd(arguments, &runtime, &data, &mut report)?,
                Subject::Ganesha => on_ganesha(arguments, &data, &mut report)?,
                Subject::Nfsserve => {
                    if let Err(error) = on_nfsserve(arguments, &runtime, &mut report) {
                        eprintln!("nfsserve did not finish: {error:#}");
                    }
                }
            }
            std::fs::remove_dir_all(&data)?;
        }
        // No subject always finds the machine as the same other one left it.
        subjects.rotate_left(1);
    }
    drop(free_memory);
    report.print(OURS);
    Ok(())
}

fn on_cairnd(
    arguments: &KernelArguments,
    runtime: &tokio::runtime::Runtime,
    data: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    let node = runtime.block_on(Node::start(&NodeSettings::new(data)))?;
    runtime.block_on(async { Control::connect(node.socket()).await?.create(WORKSPACE).await })?;
    let mount = Mount::new(node.nfs(), format!("/{WORKSPACE}"));
    measure(arguments, OURS, mount, report)?;
    Ok(())
}

fn on_ganesha(arguments: &KernelArguments, data: &Path, report: &mut Report) -> anyhow::Result<()> {
    let export = data.join("export");
    std::fs::create_dir_all(&export)?;
    let server = Ganesha::start(data, &export)?;
    let mount = Mount::new(server.address, export.display().to_string());
    let mount = mount.with(&format!("mountport={}", server.mount_port));
    measure(arguments, "ganesha", mount, report)?;
    Ok(())
}

fn on_nfsserve(
    arguments: &KernelArguments,
    runtime: &tokio::runtime::Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let node = InProcess::new(VolumesSettings::default())?;
    let path = format!("/{WORKSPACE}");
    let address = runtime.block_on(nfsserve_adapter::serve(Arc::clone(&node.volumes), &path))?;
    measure(arguments, "nfsserve", Mount::new(address, "/"), report)
}
