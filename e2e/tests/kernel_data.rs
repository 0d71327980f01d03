//! File data through the kernel client: what fio wrote and read back, and files that shrink, grow and have holes.

use cairn_e2e::kernel::Server;

/// Sequential and random writes in several block sizes, buffered, direct and mapped; fio checks every block's checksum
/// afterwards, with the client's cache dropped in between.
#[test]
fn fio_reads_back_what_it_wrote() -> anyhow::Result<()> {
    let Some(server) = Server::start("fio_reads_back_what_it_wrote")? else {
        return Ok(());
    };
    let script = r#"
verified() { # NAME OPTION...
  local name=$1
  shift
  fio --name="$name" --directory=. --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=0 --output=/tmp/log "$@" ||
    { cat /tmp/log >&2; fail "$name: writing"; }
  forget
  fio --name="$name" --directory=. --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --verify_only --output=/tmp/log "$@" ||
    { cat /tmp/log >&2; fail "$name: verifying"; }
  rm -f "$name".*
}
verified sequential --rw=write --bs=1M --size=48M --end_fsync=1
verified random --rw=randwrite --bs=4k --size=8M --numjobs=2 --end_fsync=1
verified mixed --rw=randwrite --bsrange=512-64k --size=8M --end_fsync=1
verified unaligned --rw=write --bs=13331 --size=$((13331 * 600)) --end_fsync=1
verified direct --rw=randwrite --bs=16k --size=8M --direct=1
verified mapped --rw=randwrite --bs=4k --size=4M --ioengine=mmap --end_fsync=1
verified synced --rw=randwrite --bs=8k --size=1M --fsync=1
[ -z "$(ls -A)" ] || fail "left: $(ls -A)"
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}

/// Truncation, holes and appends give the bytes that POSIX promises, after the client has forgotten what it knew.
#[test]
fn sizes_holes_and_appends() -> anyhow::Result<()> {
    let Some(server) = Server::start("sizes_holes_and_appends")? else {
        return Ok(());
    };
    let script = r#"
sum() { sha256sum <"$1" | cut -d' ' -f1; }
bytes() { head -c "$1" /dev/zero | tr '\0' "$2"; }

# A hole reads as zeros; so does what a truncation cut off, once the file grows again.
bytes 5000 a >holes
dd if=/dev/zero bs=1 count=0 seek=1000000 of=holes status=none
bytes 100 b | dd of=holes bs=1 seek=700001 conv=notrunc status=none
{ bytes 5000 a; head -c 695001 /dev/zero; bytes 100 b; head -c 299899 /dev/zero; } >/tmp/want
forget
same "$(sum holes)" "$(sum /tmp/want)" "holes"
truncate -s 2500 holes
truncate -s 9000 holes
{ bytes 2500 a; head -c 6500 /dev/zero; } >/tmp/want
forget
same "$(sum holes)" "$(sum /tmp/want)" "shrunk and grown"
same "$(stat -c %s holes)" 9000

# Small files that become large ones, in steps around the sizes where storage changes.
for size in 0 1 511 512 4095 4096 4097 65535 65536 65537 1048575 1048577; do
  bytes $size c >grown
  bytes 4097 d >>grown
  { bytes $size c; bytes 4097 d; } >/tmp/want
  forget
  same "$(sum grown)" "$(sum /tmp/want)" "grown from $size"
done

# Overwriting the middle changes nothing around it.
head -c 3000000 /dev/urandom >/tmp/want
cp /tmp/want middle
for at in 1 4095 4096 65530 1048570 2999990; do
  printf 'XXXXXXXXXX' | dd of=middle bs=1 seek=$at conv=notrunc status=none
  printf 'XXXXXXXXXX' | dd of=/tmp/want bs=1 seek=$at conv=notrunc status=none
done
forget
cmp middle /tmp/want

# A file that is removed while open stays readable and writable.
exec 5<>open
echo before >&5
rm open
echo after >&5
same "$(cat /proc/self/fd/5 2>/dev/null || true)" "before
after"
exec 5>&-
same "$(ls)" "$(printf 'grown\nholes\nmiddle')"

# Disk usage is there and follows the data.
head -c 4000000 /dev/urandom >big
sync
[ "$(stat -c '%b * %B' big | tr -d ' ' | sed 's/*/ * /' | { read -r a _ b; echo $((a * b)); })" -ge 4000000 ] || fail "usage"
df . >/dev/null
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}
