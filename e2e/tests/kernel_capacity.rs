//! What a workspace may hold, as a kernel client sees it.

use cairn_e2e::kernel::{Server, WORKSPACE};

/// df shows the limit, writing beyond it fails with EDQUOT and leaves what was there, and room comes back with a removal or a higher
/// limit, without a new mount.
#[test]
fn a_limit_is_shown_and_held() -> anyhow::Result<()> {
    let Some(mut server) = Server::start_own("a_limit_is_shown_and_held")? else {
        return Ok(());
    };
    server.daemon()?.cairn(&[
        "workspace",
        "limit",
        WORKSPACE,
        "--bytes",
        "8MiB",
        "--inodes",
        "12",
    ])?;
    let script = r#"
same "$(stat -f -c '%b %S' . | awk '{print $1 * $2}')" 8388608 "size that df shows"
same "$(df --output=itotal . | tail -1 | tr -d ' ')" 12 "inodes that df shows"
head -c 4000000 /dev/urandom >kept
sync
if dd if=/dev/zero of=large bs=1M count=6 conv=fsync 2>/tmp/error; then fail "6 MiB more fitted"; fi
grep -q 'Disk quota exceeded' /tmp/error || fail "$(cat /tmp/error)"
sum=$(sha256sum <kept)
rm large
forget
same "$(sha256sum <kept)" "$sum" "what was there before"
dd if=/dev/zero of=large bs=1M count=4 conv=fsync status=none
rm large
made=0
while touch "file.$made" 2>/tmp/error; do made=$((made + 1)); [ $made -lt 20 ] || fail "20 files were made"; done
grep -q 'Disk quota exceeded' /tmp/error || fail "$(cat /tmp/error)"
same "$made" 9 "inodes beside the root, this directory and the file that is kept"
rm file.*
touch room
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}
