//! Names and attributes through the kernel client: special files, links, permissions, large directories, rename storms.

use cairn_e2e::kernel::Server;

#[test]
fn special_files_links_and_attributes() -> anyhow::Result<()> {
    let Some(server) = Server::start("special_files_links_and_attributes")? else {
        return Ok(());
    };
    let script = r#"
# Special files.
mkfifo -m 640 fifo
mknod null c 1 3
mknod disk b 7 5
forget
same "$(stat -c '%F %a' fifo)" "fifo 640"
same "$(stat -c '%F %t %T' null)" "character special file 1 3"
same "$(stat -c '%F %t %T' disk)" "block special file 7 5"
echo gone >null
same "$(cat null)" ""
(echo through >fifo) &
same "$(cat fifo)" through
wait
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
same "$(stat -c %F socket)" socket

# Hard links share everything; the count is right at every step.
echo one >first
ln first second
mkdir sub
ln second sub/third
same "$(stat -c %h first)" 3
same "$(stat -c %i first)" "$(stat -c %i sub/third)"
echo two >>sub/third
forget
same "$(cat first)" "$(printf 'one\ntwo')"
rm first
same "$(stat -c %h second)" 2
refused ln sub directory-link
same "$(stat -c %h .)" 3

# Symbolic links, also broken, odd and long ones.
ln -s sub/third relative
ln -s /nowhere/at/all broken
long=$(printf 'x%.0s' $(seq 1000))
ln -s "$long" long
forget
same "$(cat relative)" "$(printf 'one\ntwo')"
same "$(readlink broken)" /nowhere/at/all
same "$(readlink long)" "$long"
[ ! -e broken ] || fail "a broken link leads somewhere"

# Names: the longest, one too long, and bytes that are no UTF-8.
name=$(printf 'n%.0s' $(seq 255))
: >"$name"
[ -e "$name" ] || fail "long name"
refused touch "${name}n"
grep -q 'too long' /tmp/refused
odd=$(printf 'odd \001\377\n\\name')
echo odd >"$odd"
forget
same "$(cat "$odd")" odd
rm "$odd" "$name"

# Modes, owners and times to the nanosecond.
: >attributes
chmod 4751 attributes
chown 1001:1002 attributes
chmod 4751 attributes
touch -d '2001-02-03 04:05:06.123456789 UTC' attributes
forget
same "$(stat -c '%a %u %g' attributes)" "4751 1001 1002"
same "$(date -u -r attributes +%s.%N)" 981173106.123456789
touch -d '1955-01-01 UTC' old 2>/dev/null || true # before 1970 NFSv3 has no times
before=$(stat -c %Z attributes)
chmod 600 attributes
[ "$(stat -c %Z attributes)" -ge "$before" ] || fail "the change time went back"

# Exclusive creation, and creation with the mode that was asked for.
(set -C; : >exclusive)
refused bash -c 'set -C; : >exclusive'
(umask 027; : >masked; mkdir masked.d)
same "$(stat -c %a masked masked.d | tr '\n' ' ')" "640 750 "

# Permissions of another user.
as_user() { setpriv --reuid 1001 --regid 1001 --clear-groups "$@"; }
chmod 755 .
mkdir -m 700 private
echo secret >private/file
echo mine >readable
chmod 600 readable
refused as_user cat readable
refused as_user ls private
refused as_user touch new
refused as_user chmod 777 readable
refused as_user rm readable
mkdir -m 1777 shared
echo root >shared/root
as_user bash -c 'echo user >shared/user'
refused as_user rm shared/root
same "$(stat -c %u shared/user)" 1001
chmod 640 readable
chgrp 1002 readable
same "$(setpriv --reuid 1001 --regid 1001 --groups 1002 cat readable)" mine

# Directories that are not empty, and moves that cannot be.
refused rmdir sub
refused mv -T sub shared
mkdir -p outer/inner
refused python3 -c 'import os; os.rename("outer", "outer/inner/outer")'
refused cat sub
refused rmdir readable
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}

/// A directory of 10,000 entries is listed completely, each name once, also while it is being emptied.
#[test]
fn a_directory_of_ten_thousand_entries() -> anyhow::Result<()> {
    let Some(server) = Server::start("a_directory_of_ten_thousand_entries")? else {
        return Ok(());
    };
    let script = r#"
mkdir many
python3 -c '
import os
for i in range(10000):
    os.close(os.open("many/entry-%05d" % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
'
listed() { ls -f "$1" | grep -v '^\.\.\?$' | LC_ALL=C sort; }
seq -f 'entry-%05g' 0 9999 >/tmp/want
forget
listed many | cmp - /tmp/want
forget
find many -type f -size 0 -printf '%f\n' | LC_ALL=C sort | cmp - /tmp/want
same "$(find many -type f -printf '%i\n' | sort -u | wc -l)" 10000 "inode numbers"

# Listing while names come and go: what was there all the time is listed exactly once.
(cd many && for i in $(seq 1 2 799); do rm "entry-$(printf %05d "$i")"; : >"extra-$i"; done) &
changes=$!
for round in 1 2 3; do
  forget
  listed many >/tmp/list
  grep -c '^entry-0[1-9]' /tmp/list | grep -qx 9000 || fail "round $round: entries are missing"
  same "$(uniq -d /tmp/list)" "" "names listed twice"
done
wait "$changes"
same "$(listed many | wc -l)" 10000

# Deleting while listing, as rm does it.
rm -r many
[ ! -e many ] || fail "many is still there"
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}

/// Many processes rename files within and across directories, over one another and back. No file is lost or doubled.
#[test]
fn rename_storms() -> anyhow::Result<()> {
    let Some(server) = Server::start("rename_storms")? else {
        return Ok(());
    };
    let script = r#"
mkdir a b c
cat >/tmp/storm.py <<'END'
import os, random, sys
worker = int(sys.argv[1])
random.seed(worker)
# Each worker owns 20 files and moves them about among the others' names.
where = {}
for i in range(20):
    where[i] = "a/%d-%d" % (worker, i)
    with open(where[i], "w") as f:
        f.write("%d-%d" % (worker, i))
for step in range(300):
    i = random.randrange(20)
    to = "%s/%d-%d-%d" % (random.choice("abc"), worker, i, step)
    if random.random() < 0.2:
        # Over a file that exists: the target is replaced, never absent.
        with open(to, "w") as f:
            f.write("replaced")
    os.rename(where[i], to)
    where[i] = to
with open("/tmp/end-%d" % worker, "w") as f:
    for i in range(20):
        f.write("%s %d-%d\n" % (where[i], worker, i))
END
for worker in 1 2 3 4; do python3 /tmp/storm.py $worker & workers+=" $!"; done
for worker in $workers; do wait "$worker"; done
forget
cat /tmp/end-* | sort >/tmp/want
(for file in a/* b/* c/*; do echo "$file $(cat "$file")"; done) | sort >/tmp/found
diff /tmp/want /tmp/found

# One name is replaced all the time; a reader always finds a whole file behind it.
echo 0 >target
(for i in $(seq 200); do echo "$i" >"new.$i"; mv "new.$i" target; done; : >/tmp/done) &
writer=$!
reads=0
until [ -e /tmp/done ]; do
  value=$(cat target 2>/dev/null) || value=stale # the inode was replaced between open and read: ESTALE, by the protocol
  case $value in stale | [0-9]*) ;; *) fail "read '$value'" ;; esac
  reads=$((reads + 1))
done
wait "$writer"
same "$(cat target)" 200
[ "$reads" -gt 3 ] || fail "the reader hardly ran"

# Directories change places with everything in them.
mkdir -p left/deep right
echo content >left/deep/file
mv left right/moved
mv right/moved/deep .
forget
same "$(cat deep/file)" content
same "$(stat -c %h right)" 3
python3 -c 'import os; os.rename("deep/file", "deep/../right/moved/file"); os.rename("right/moved", "right/moved")'
same "$(find right -name file)" right/moved/file
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}
