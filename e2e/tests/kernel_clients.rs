//! Two clients on two machines: what one wrote and closed, the other reads; names made by both are all there.

use cairn_e2e::guest::GuestSettings;
use cairn_e2e::kernel::{SCRIPT_TIMEOUT, Server, start_guest};

/// Close-to-open consistency: a reader that opens a file after the writer closed it sees what the writer wrote, even if
/// the size is the same and the reader has the old contents in its cache.
#[test]
fn what_one_closed_the_other_opens() -> anyhow::Result<()> {
    let Some(server) = Server::start("what_one_closed_the_other_opens")? else {
        return Ok(());
    };
    let directory = format!("two.{}", std::process::id());
    let settings = GuestSettings {
        mounts: vec![server.mount()],
        shares: Vec::new(),
        timeout: SCRIPT_TIMEOUT,
    };
    let writer = format!(
        r#"
mkdir {directory}
cd {directory}
for round in 100 101 102 103 104 105; do
  await "write-$round"
  echo "round $round" >file
  python3 -c "open('large', 'wb').write(b'$round' * 700000)"
  tell "written-$round"
done
"#
    );
    let reader = format!(
        r#"
for round in 100 101 102 103 104 105; do
  await "read-$round"
  same "$(cat {directory}/file)" "round $round"
  python3 - <<END
data = open("{directory}/large", "rb").read()
assert data == b"$round" * 700000, (len(data), data[:12], data[-12:])
END
  tell "done-$round"
done
"#
    );
    let mut writer = start_guest(&settings, &writer)?;
    let mut reader = start_guest(&settings, &reader)?;
    assert_ne!(writer.address(), reader.address());
    for round in 100..=105 {
        writer.tell(&format!("write-{round}"))?;
        writer.wait_for(&format!("written-{round}"))?;
        reader.tell(&format!("read-{round}"))?;
        reader.wait_for(&format!("done-{round}"))?;
    }
    writer.wait()?.expect_success();
    reader.wait()?.expect_success();
    Ok(())
}

/// Both clients make, rename and remove names in one directory at once, and count under a lock that is a directory.
#[test]
fn both_change_one_directory() -> anyhow::Result<()> {
    let Some(server) = Server::start("both_change_one_directory")? else {
        return Ok(());
    };
    let directory = format!("both.{}", std::process::id());
    let settings = GuestSettings {
        // Nothing about names is cached, so that the lock is taken on the server.
        mounts: vec![server.mount().with("actimeo=0,lookupcache=none")],
        shares: Vec::new(),
        timeout: SCRIPT_TIMEOUT,
    };
    let script = |me: char| {
        format!(
            r#"
mkdir {directory} 2>/dev/null || true
cd {directory}
tell here
await go
cat >/tmp/both.py <<'END'
import os, time
for i in range(300):
    name = "{me}-%d" % i
    with open(name + ".new", "w") as f:
        f.write(name)
    os.rename(name + ".new", name)
    if i % 3 == 0:
        os.remove(name)
for i in range(60):
    while True:
        try:
            os.mkdir("lock")
            break
        except FileExistsError:
            time.sleep(0.005)
    with open("counter", "a+") as f:
        f.seek(0)
        count = int(f.read() or 0)
    with open("counter", "w") as f:
        f.write(str(count + 1))
    os.rmdir("lock")
END
python3 /tmp/both.py
tell finished
await compare
same "$(cat counter)" 120 counter
same "$(ls | grep -c '^[ab]-[0-9]*$')" 400 names
for file in [ab]-*; do same "$(cat "$file")" "$file"; done
"#
        )
    };
    let mut guests = [
        start_guest(&settings, &script('a'))?,
        start_guest(&settings, &script('b'))?,
    ];
    for step in [("here", "go"), ("finished", "compare")] {
        for guest in &mut guests {
            guest.wait_for(step.0)?;
        }
        for guest in &guests {
            guest.tell(step.1)?;
        }
    }
    for guest in guests {
        guest.wait()?.expect_success();
    }
    Ok(())
}
