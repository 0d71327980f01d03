//! Whole trees through the kernel client: copied in and out, unpacked, cloned; every byte and attribute compared.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use cairn_e2e::guest::Share;
use cairn_e2e::kernel::Server;
use cairn_e2e::random::Random;

/// Lists a tree: type, mode, owner, time, size of files, target, link count of files; then the groups of hard links.
const LIST: &str = r#"
list() { # DIRECTORY
  (cd "$1" && find . -mindepth 1 \( -type d -printf '%P %y %m %U %G %T@\n' \) -o \
    -printf '%P %y %m %U %G %T@ %s %n %l\n' | LC_ALL=C sort)
  (cd "$1" && find . -type f -links +1 -printf '%i %P\n' | LC_ALL=C sort -k2 |
    awk '{ if (!($1 in first)) first[$1] = $2; print first[$1], $2 }')
}
same_tree() { # DIRECTORY DIRECTORY
  list "$1" >/tmp/list.1
  list "$2" >/tmp/list.2
  diff /tmp/list.1 /tmp/list.2 || fail "attributes differ"
  diff -r --no-dereference "$1" "$2" || fail "contents differ"
}
"#;

/// Some hundred files of many sizes with odd names, modes and times, links of both kinds and empty directories.
fn make_tree(root: &Path) -> anyhow::Result<()> {
    let mut random = Random::new(0x7ee);
    for directory in 0..12 {
        let path = root.join(format!("directory {directory}")).join("inner");
        fs::create_dir_all(&path)?;
        for file in 0..25 {
            let size = match file {
                0 => 0,
                24 => 3 << 20,
                _ => random.below(200_000) as usize,
            };
            let path = path.join(format!("file {file}"));
            let mut written = File::create(&path)?;
            written.write_all(&random.bytes(size))?;
            let nanoseconds = 1_000_000_000_123_456_789 + random.below(500_000_000_000_000_000);
            written.set_modified(UNIX_EPOCH + Duration::from_nanos(nanoseconds))?;
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode([0o644, 0o400, 0o755, 0o6711][file % 4]),
            )?;
        }
        fs::hard_link(path.join("file 1"), root.join(format!("hard link {directory}")))?;
        symlink(
            format!("directory {directory}/inner/file 2"),
            root.join(format!("link {directory}")),
        )?;
    }
    symlink("nowhere", root.join("broken"))?;
    fs::create_dir(root.join("empty"))?;
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff\x01name");
    fs::write(root.join(odd), "odd")?;
    let sparse = File::create(root.join("sparse"))?;
    sparse.set_len(10 << 20)?;
    Ok(())
}

#[test]
fn a_tree_is_copied_in_and_out() -> anyhow::Result<()> {
    let Some(server) = Server::start("a_tree_is_copied_in_and_out")? else {
        return Ok(());
    };
    let tree = tempfile::tempdir()?;
    make_tree(tree.path())?;
    let script = format!(
        r#"{LIST}
mkdir tree
cp -a /share/. tree/
forget
same_tree /share tree
cp -a tree copy
forget
same_tree tree copy
rm -rf tree
mkdir /tmp/out
cp -a copy/. /tmp/out/
same_tree /share /tmp/out
"#
    );
    server
        .run(&script, &[Share::read_only(tree.path())])?
        .expect_success();
    Ok(())
}

#[test]
fn an_archive_is_unpacked() -> anyhow::Result<()> {
    let Some(server) = Server::start("an_archive_is_unpacked")? else {
        return Ok(());
    };
    let script = r#"
tar -cf /tmp/archive.tar -C / usr/lib/python3 usr/share/perl usr/lib/git-core/mergetools usr/lib/modules etc
files=$(tar -tf /tmp/archive.tar | wc -l)
[ "$files" -gt 500 ] || fail "only $files files in the archive"
tar -xpf /tmp/archive.tar
forget
tar -dpf /tmp/archive.tar
tar -cf - . | tar -tf - | sed 's,^\./,,' | grep -v '^$' | LC_ALL=C sort >/tmp/found
tar -tf /tmp/archive.tar | LC_ALL=C sort >/tmp/archived
LC_ALL=C comm -23 /tmp/archived /tmp/found | grep . && fail "files are missing"
rm -rf etc usr
same "$(ls -A)" ""
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}

#[test]
fn a_repository_is_cloned_and_used() -> anyhow::Result<()> {
    let Some(server) = Server::start("a_repository_is_cloned_and_used")? else {
        return Ok(());
    };
    let script = r#"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
  GIT_CONFIG_KEY_1=init.defaultBranch GIT_CONFIG_VALUE_1=main
git init -q /tmp/origin
cp -a /usr/lib/python3/. /tmp/origin/ 2>/dev/null
cp -a /usr/share/perl5/Git* /usr/lib/git-core/mergetools /tmp/origin/
git -C /tmp/origin add -A
git -C /tmp/origin commit -qm first
git clone -q --no-hardlinks /tmp/origin clone
forget
git -C clone fsck --full --strict
same "$(git -C clone status --porcelain)" ""
cd clone
for i in $(seq 5); do
  echo "change $i" >"file-$i"
  git add -A
  git commit -qm "change $i"
done
git checkout -q -b side HEAD~3
echo side >side
git add side
git commit -qm side
git merge -q --no-edit main
git gc -q --prune=now
forget
git fsck --full --strict
same "$(git status --porcelain)" ""
same "$(git rev-list --count HEAD)" 8
same "$(cat file-5 side)" "$(printf 'change 5\nside')"
"#;
    server.run(script, &[])?.expect_success();
    Ok(())
}
