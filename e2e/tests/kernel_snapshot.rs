//! Snapshots, restore and forks while clients have the workspace mounted.

use anyhow::Context;
use cairn_e2e::daemon::Daemon;
use cairn_e2e::guest::{GuestSettings, Mount};
use cairn_e2e::kernel::{SCRIPT_TIMEOUT, Server, WORKSPACE, start_guest};

fn snapshot(daemon: &Daemon, note: &str) -> anyhow::Result<String> {
    let made = daemon.cairn(&["snapshot", WORKSPACE, "--note", note])?;
    let id = made["id"].as_str();
    Ok(id.with_context(|| format!("no id in {made}"))?.to_owned())
}

/// A client fills a workspace, breaks it after a snapshot, and has it all back after the restore, in the same mount.
#[test]
fn a_mounted_workspace_is_restored() -> anyhow::Result<()> {
    let Some(mut server) = Server::start_own("a_mounted_workspace_is_restored")? else {
        return Ok(());
    };
    let settings = GuestSettings {
        // Attributes are asked for each time: the restore is seen at once, not when they would have expired.
        mounts: vec![server.mount().with("actimeo=0")],
        shares: Vec::new(),
        timeout: SCRIPT_TIMEOUT,
    };
    let script = r#"
list() { find . -mindepth 1 -printf '%P %y %m %U %G %T@ %s %n %l\n' | LC_ALL=C sort; find . -type f -exec sha256sum {} + | LC_ALL=C sort; }
cp -a /usr/lib/git-core/mergetools tree
mkdir -p deep/er
for i in $(seq 100); do echo "file $i" >"deep/er/$i"; done
head -c 5000000 /dev/urandom >large
ln large deep/hard
ln -s large symbolic
chmod 400 deep/er/7
sync
list >/tmp/before
tell filled
await taken
rm -r tree deep/er/2*
echo changed >deep/er/1
echo more >>deep/er/3
mv deep/er/4 renamed
chmod 777 deep/er/7
truncate -s 1000 large
printf XXXX | dd of=deep/hard bs=1 seek=500 conv=notrunc status=none
for i in $(seq 50); do echo new >"new-$i"; done
sync
list >/tmp/broken
if diff /tmp/before /tmp/broken >/dev/null; then fail "nothing was broken"; fi
tell broken
await restored
list >/tmp/after
diff /tmp/before /tmp/after
forget
list >/tmp/after
diff /tmp/before /tmp/after
echo usable >again
same "$(cat again)" usable
rm again
sync
tell checked
await undone
rm -f /tmp/after
list >/tmp/after
diff /tmp/broken /tmp/after
"#;
    let mut guest = start_guest(&settings, script)?;
    let daemon = server.daemon()?;
    guest.wait_for("filled")?;
    let id = snapshot(daemon, "before")?;
    guest.tell("taken")?;
    guest.wait_for("broken")?;
    let broken = snapshot(daemon, "broken")?;
    daemon.cairn(&["restore", WORKSPACE, &id])?;
    guest.tell("restored")?;
    guest.wait_for("checked")?;
    daemon.cairn(&["restore", WORKSPACE, &broken])?;
    guest.tell("undone")?;
    guest.wait()?.expect_success();
    Ok(())
}

/// Snapshots taken while a client writes hold one moment each: what was durable before something else was written is
/// there whenever that is. Each is looked at through a fork.
#[test]
fn snapshots_under_load_hold_one_moment() -> anyhow::Result<()> {
    const SNAPSHOTS: usize = 8;
    let Some(mut server) = Server::start_own("snapshots_under_load_hold_one_moment")? else {
        return Ok(());
    };
    let settings = GuestSettings {
        mounts: vec![server.mount()],
        shares: Vec::new(),
        timeout: SCRIPT_TIMEOUT,
    };
    let script = r#"
cat >/tmp/pairs.py <<'END'
import os
def put(name, number, length):
    with open(name, "wb") as f:
        f.write(b"%08d" % number * length)
        f.flush()
        os.fsync(f.fileno())
step = 0
number = 0
while not os.path.exists("/cairn/enough"):
    number += 1
    put("small", number, 1)
    put("large", number, 40000)
    os.mkdir("at-%d" % number)
    if number > 1:
        os.rmdir("at-%d" % (number - 1))
    if number % 10 == 0:
        open("/cairn/step-%d" % (number // 10), "w").close()
END
python3 /tmp/pairs.py
"#;
    let mut guest = start_guest(&settings, script)?;
    let daemon = server.daemon()?;
    let mut mounts = Vec::new();
    for step in 1..=SNAPSHOTS {
        guest.wait_for(&format!("step-{step}"))?;
        let id = snapshot(daemon, &format!("step {step}"))?;
        let fork = format!("fork-{step}");
        daemon.cairn(&["fork", WORKSPACE, &id, &fork])?;
        mounts.push(Mount::new(daemon.nfs(), format!("/{fork}")).at(&format!("/tmp/{fork}")));
    }
    guest.tell("enough")?;
    guest.wait()?.expect_success();

    let settings = GuestSettings { mounts, ..settings };
    let script = r#"
python3 - <<'END'
import os
last = 0
for step in range(1, 9):
    at = "/tmp/fork-%d/" % step
    small = open(at + "small", "rb").read()
    large = open(at + "large", "rb").read()
    # A file is empty between its truncation and its write; that is a moment too.
    numbers = {large[i:i + 8] for i in range(0, len(large), 8)}
    assert len(small) in (0, 8) and len(large) in (0, 320000) and len(numbers) <= 1, (step, small, len(large), numbers)
    made = sorted(int(name[3:]) for name in os.listdir(at) if name.startswith("at-"))
    assert len(made) in (1, 2) and made[-1] - made[0] == len(made) - 1, made
    if small:
        assert made[-1] in (int(small), int(small) - 1), (small, made)
    if large:
        assert made[-1] in (int(large[:8]), int(large[:8]) - 1), (large[:8], made)
        if small:
            assert 0 <= int(small) - int(large[:8]) <= 1, (small, large[:8])
    assert made[-1] >= last and made[-1] >= step * 10 - 1, (made, last)
    last = made[-1]
    # A fork is a workspace like any other.
    with open(at + "own", "w") as f:
        f.write(str(step))
END
"#;
    start_guest(&settings, script)?.wait()?.expect_success();
    Ok(())
}
