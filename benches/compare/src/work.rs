//! The jobs with many small files, as they run on a mount: this program runs them in the guest itself, because starting a
//! process there costs more than what is measured. Prints one line for each figure: name, tab, figure.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

/// Where, and how many.
#[derive(Debug, Args)]
pub struct WorkArguments {
    /// A directory on the mount; the files are made in a new directory in it.
    directory: PathBuf,
    /// How many files.
    #[arg(long, default_value_t = 2000)]
    files: usize,
}

fn timed(name: &str, count: usize, work: impl FnOnce() -> std::io::Result<()>) -> anyhow::Result<()> {
    let started = Instant::now();
    work().with_context(|| name.to_owned())?;
    println!("{name}\t{:.1}", count as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs the jobs.
pub fn run(arguments: &WorkArguments) -> anyhow::Result<()> {
    let directory = arguments.directory.join("small-files");
    std::fs::create_dir(&directory)?;
    let count = arguments.files;
    let path = |index: usize| directory.join(format!("file-{index:06}"));
    let data = [b'c'; 4096];
    timed("create", count, || {
        (0..count).try_for_each(|index| File::create_new(path(index)).map(drop))
    })?;
    timed("write 4 KiB and close", count, || {
        (0..count).try_for_each(|index| OpenOptions::new().write(true).open(path(index))?.write_all(&data))
    })?;
    timed("stat", count, || {
        (0..count).try_for_each(|index| std::fs::metadata(path(index)).map(drop))
    })?;
    // Data in the client's cache would not be asked for. Without the right to drop it, the figure says so itself.
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the client's caches")?;
    timed("read 4 KiB", count, || {
        (0..count).try_for_each(|index| {
            let mut found = Vec::new();
            File::open(path(index))?.read_to_end(&mut found)?;
            if found == data {
                Ok(())
            } else {
                Err(std::io::Error::other("other data than was written"))
            }
        })
    })?;
    timed("list (entries)", count, || {
        let found = std::fs::read_dir(&directory)?.count();
        if found == count {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("{found} of {count} entries")))
        }
    })?;
    timed("unlink", count, || {
        (0..count).try_for_each(|index| std::fs::remove_file(path(index)))
    })?;
    std::fs::remove_dir(&directory)?;
    Ok(())
}
