//! What is particular about Azure Blob Storage, against Microsoft's emulator Azurite.
//!
//! Azurite comes from `make emulators`. Where it is absent these tests say so and pass; with `CI` set they fail.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cairn_content::objects::{Credentials, ObjectError, ObjectOptions};

use super::{conformance, name, open, options, pattern};

/// The program of `make emulators`, in the home directory; one in PATH comes first.
const INSTALLED: &str = ".cache/cairn/emulators/bin/azurite-blob";
const CONTAINER: &str = "container";
/// The account and key that Azurite has unless told otherwise; they are published in its documentation.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// How long Azurite may take to listen, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Azurite on a port of its own, with everything in memory; it ends with this value.
struct Azurite {
    child: Child,
    endpoint: String,
    directory: tempfile::TempDir,
    /// Kept open: Azurite would fail when it writes to a pipe that nobody reads.
    _output: BufReader<ChildStdout>,
}

impl Drop for Azurite {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Azurite {
    /// Starts it and makes the container; `None`, with a message, where it is not installed.
    async fn start(test: &str) -> Option<Self> {
        let Some(program) = program() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "in CI {test} must run, but azurite-blob is neither in PATH nor at ~/{INSTALLED}: run `make emulators`"
            );
            eprintln!("SKIPPED {test}: it needs Azurite: run `make emulators`");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let mut child = with_parent(&program)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0"])
            .args(["--inMemoryPersistence", "--disableTelemetry", "--silent"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let listening = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            while output.read_line(&mut said).unwrap() > 0 {
                let line = said.lines().last().unwrap_or_default();
                if let Some((_, endpoint)) = line.split_once("successfully listens on ") {
                    return Ok((endpoint.trim().to_owned(), output));
                }
            }
            Err(said)
        });
        let found = tokio::time::timeout(START_TIMEOUT, listening).await;
        let (endpoint, output) = match found {
            Ok(found) => found
                .unwrap()
                .unwrap_or_else(|said| panic!("Azurite did not start: {said}")),
            Err(_elapsed) => {
                child.kill().unwrap();
                panic!("Azurite did not listen within {START_TIMEOUT:?}");
            }
        };
        std::fs::write(
            directory.path().join("credentials"),
            format!("account_key = {KEY}\n"),
        )
        .unwrap();
        let azurite = Azurite {
            child,
            // The emulator has the account in the path, where the service has it in the host's name.
            endpoint: format!("{endpoint}/{ACCOUNT}"),
            directory,
            _output: output,
        };
        azurite.create_container();
        Some(azurite)
    }

    /// Makes the container, which no [`cairn_content::objects::Objects`] does. Azurite runs on Node.js, so that can
    /// sign the request.
    fn create_container(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/objects/azure_container.mjs");
        let made = Command::new("node")
            .args([script, &self.endpoint, ACCOUNT, KEY, CONTAINER])
            .status()
            .unwrap();
        assert!(made.success(), "{made}");
    }

    fn options(&self) -> ObjectOptions {
        ObjectOptions {
            endpoint: Some(self.endpoint.clone()),
            account: Some(ACCOUNT.to_owned()),
            allow_http: true,
            credentials: Credentials::File {
                path: self.directory.path().join("credentials"),
                profile: String::new(),
            },
            ..options()
        }
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::home_dir().map(|home| home.join(INSTALLED));
    std::env::split_paths(&path)
        .map(|directory| directory.join("azurite-blob"))
        .chain(installed)
        .find(|program| program.is_file())
}

/// A command that the kernel ends when the thread that started it ends, also if this process is killed. Without
/// setpriv(1) of util-linux only [`Azurite`]'s drop ends it.
fn with_parent(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_conforms() {
    let Some(azurite) = Azurite::start("azure_conforms").await else {
        return;
    };
    let number = AtomicU32::new(0);
    let fresh = || {
        let prefix = number.fetch_add(1, Ordering::Relaxed);
        open(&format!("az://{CONTAINER}/some/{prefix}"), azurite.options())
    };
    conformance::run(fresh).await;
}

#[tokio::test]
async fn refusals_of_azure_are_typed() {
    let Some(azurite) = Azurite::start("refusals_of_azure_are_typed").await else {
        return;
    };
    let absent = open("az://other-container/p", azurite.options());
    for error in [
        absent.check().await.unwrap_err(),
        absent.put(&name("a"), pattern(1, 1)).await.unwrap_err(),
        absent.get(&name("a")).await.unwrap_err(),
    ] {
        assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");
    }
    let wrong = azurite.directory.path().join("wrong");
    std::fs::write(&wrong, "account_key = aHVudGVyMg==\n").unwrap();
    let denied = ObjectOptions {
        credentials: Credentials::File {
            path: wrong,
            profile: String::new(),
        },
        ..azurite.options()
    };
    let objects = open(&format!("az://{CONTAINER}"), denied);
    let error = objects.put(&name("a"), pattern(1, 1)).await.unwrap_err();
    assert!(matches!(error, ObjectError::Denied { .. }), "{error:?}");
    assert!(
        !format!("{error} {error:?} {objects:?}").contains("aHVudGVyMg"),
        "{error:?}"
    );
}
