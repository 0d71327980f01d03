//! Compares this crate's transport with a bare responder on the same machine, in the same run: one connection, a file
//! system that does nothing. Prints the medians, and the
//! median of the ratios of the rounds, whose two halves follow each other closely: on a busy machine only that one means much.
//!
//! Usage: `transport [ROUNDS [SECONDS [OPERATION]]]`, OPERATION being getattr, read or write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_nfs::testing::load::{Client, Operation};
use cairn_nfs::testing::{NullFileSystem, bare};
use cairn_nfs::{Server, ServerSettings};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let seconds: f64 = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let only = arguments.next();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let server = Server::new(
        Arc::new(NullFileSystem::default()),
        ServerSettings::default(),
        [1; 16],
    )?;
    runtime.spawn(async move { server.serve(listener, std::future::pending()).await });
    let bare = bare::start()?;
    for (name, operation, in_flight) in [
        ("getattr", Operation::Getattr, 64),
        ("read", Operation::Read, 8),
        ("write", Operation::Write, 8),
    ] {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let duration = Duration::from_secs_f64(seconds);
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..rounds {
            ours.push(measure(address, address, operation, in_flight, duration)?);
            theirs.push(measure(address, bare, operation, in_flight, duration)?);
        }
        let ratio = median(
            ours.iter()
                .zip(&theirs)
                .map(|(ours, theirs)| ours / theirs)
                .collect(),
        );
        let (ours, theirs) = (median(ours), median(theirs));
        let unit = if operation == Operation::Getattr {
            "calls/s"
        } else {
            "MiB/s"
        };
        println!("{name}: {ours:.0} {unit}, bare {theirs:.0}, ratio {ratio:.2}");
    }
    Ok(())
}

/// The handle comes from the server in either case; the bare responder takes any.
fn measure(
    server: SocketAddr,
    target: SocketAddr,
    operation: Operation,
    in_flight: usize,
    duration: Duration,
) -> Result<f64, Failure> {
    let mut client = Client::connect(server)?;
    let root = client.mount("/null")?;
    let file = client.lookup(&root, "file")?;
    let measured = Client::connect(target)?.run(&file, operation, in_flight, duration)?;
    Ok(match operation {
        Operation::Getattr => measured.calls_per_second(),
        Operation::Read | Operation::Write => measured.mebibytes_per_second(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
