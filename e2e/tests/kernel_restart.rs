//! The daemon is stopped or killed and started again under load; the client waits, carries on, and nothing is lost.

use anyhow::ensure;
use cairn_e2e::daemon::Daemon;
use cairn_e2e::guest::GuestSettings;
use cairn_e2e::kernel::{SCRIPT_TIMEOUT, Server, in_fresh_directory, start_guest};

/// Restarts during one load.
const RESTARTS: usize = 5;

/// Three loads at once: small files that are renamed, linked and removed (each of which must happen once, though the
/// client repeats what was not answered), large files, an archive. Then everything is compared.
const LOAD: &str = r#"
tar -cf /tmp/archive.tar -C / usr/lib/python3 usr/share/perl5 usr/lib/git-core/mergetools
head -c 20000000 /dev/urandom >/tmp/large
cat >/tmp/small.py <<'END'
import os
os.mkdir("small")
for i in range(600):
    name = "small/file-%d" % i
    fd = os.open(name + ".new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    os.write(fd, b"%d\n" % i * 1000)
    if i % 3 == 0:
        os.fsync(fd)
    os.close(fd)
    os.rename(name + ".new", name)
    os.link(name, "small/link-%d" % i)
    os.mkdir("small/directory")
    if i % 2 == 0:
        os.unlink(name)
    os.rmdir("small/directory")
    os.symlink("link-%d" % i, "small/symlink-%d" % i)
    if i % 100 == 50:
        open("/cairn/step-%d" % (i // 100), "w").close()
END
python3 /tmp/small.py &
small=$!
(mkdir archive && tar -xpf /tmp/archive.tar -C archive) &
archive=$!
(for i in 1 2 3 4; do dd if=/tmp/large of="large-$i" bs=1M conv=fsync status=none; done) &
large=$!
wait "$small"
wait "$archive"
wait "$large"
forget
for i in 1 2 3 4; do cmp /tmp/large "large-$i"; done
tar -dpf /tmp/archive.tar -C archive
python3 - <<'END'
import os
names = set(os.listdir("small"))
want = set()
for i in range(600):
    want |= {"link-%d" % i, "symlink-%d" % i}
    if i % 2:
        want.add("file-%d" % i)
assert names == want, sorted(names ^ want)[:10]
for i in range(600):
    with open("small/symlink-%d" % i, "rb") as f:
        assert f.read() == b"%d\n" % i * 1000, i
    assert os.stat("small/link-%d" % i).st_nlink == 1 + i % 2, i
END
"#;

fn carries_on(test: &str, end: fn(&mut Daemon) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Some(mut server) = Server::start_own(test)? else {
        return Ok(());
    };
    let settings = GuestSettings {
        mounts: vec![server.mount()],
        shares: Vec::new(),
        timeout: SCRIPT_TIMEOUT,
    };
    let mut guest = start_guest(&settings, &in_fresh_directory(LOAD))?;
    for step in 0..RESTARTS {
        guest.wait_for(&format!("step-{step}"))?;
        let daemon = server.daemon()?;
        end(daemon)?;
        daemon.restart()?;
    }
    guest.wait()?.expect_success();
    Ok(())
}

#[test]
fn a_client_carries_on_through_orderly_restarts() -> anyhow::Result<()> {
    carries_on("a_client_carries_on_through_orderly_restarts", |daemon| {
        let status = daemon.stop()?;
        ensure!(
            status.success(),
            "cairnd ended with {status}:\n{}",
            daemon.log_end()
        );
        Ok(())
    })
}

#[test]
fn a_client_carries_on_through_kills() -> anyhow::Result<()> {
    carries_on("a_client_carries_on_through_kills", Daemon::kill)
}
