#!/usr/bin/env bash
# Makes sure that what the build (with "tests" the tests on file systems, with "e2e" the kernel-client tests, with "compare" the comparison through a kernel client,
# "compare-archive" that of archivers, with "emulators" the tests against emulated object stores) needs from the system is there.
# "deploy" the checks of what is installed into clusters.
# Installs what is missing with apt, the emulators with npm into ~/.cache/cairn, helm and kustomize with go into ~/.cache/cairn/tools, and nothing if
# nothing is missing.
# "compare-archive" also builds programs that Debian has not, from their crates, below CAIRN_PEERS (~/.cache/cairn/peers).
set -euo pipefail

# One "test | Debian package" per line. A test that succeeds means that the package is not needed.
build_needs='
command -v c++      | g++
command -v clang    | clang
has_libclang        | libclang-dev
command -v make     | make
command -v git      | git
'
e2e_needs='
command -v ip       | iproute2
command -v mke2fs   | e2fsprogs
command -v flock    | util-linux
command -v setpriv  | util-linux
command -v unshare  | util-linux
command -v dpkg-deb | dpkg
command -v xz       | xz-utils
'
tests_needs='
test -x /usr/sbin/mke2fs     | e2fsprogs
test -x /usr/sbin/mkfs.xfs   | xfsprogs
test -x /usr/sbin/mkfs.btrfs | btrfs-progs
command -v strace            | strace
command -v tar               | tar
command -v zstd              | zstd
command -v go                | golang-go
command -v fusermount3       | fuse3
'
emulators_needs='
command -v node     | nodejs
command -v npm      | npm
'
deploy_needs='
command -v git      | git
'
compare_needs='
command -v ganesha.nfsd                  | nfs-ganesha
command -v rpcbind                       | rpcbind
ls /usr/lib/*/ganesha/libfsalvfs.so      | nfs-ganesha-vfs
'
compare_archive_needs='
command -v restic                 | restic
command -v borg                   | borgbackup
test -x /usr/bin/time             | time
command -v setpriv                | util-linux
command -v pkg-config             | pkg-config
pkg-config --exists libsodium     | libsodium-dev
'
# One "program | crate | version | features" per line, in the versions that are compared.
peers='
bupstash | bupstash  | 0.12.0 |
rustic   | rustic-rs | 0.11.4 | --no-default-features
'

# RocksDB's bindings are generated at build time by libclang.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  local found=(/usr/lib/llvm-*/lib/libclang.so* /usr/lib/*/libclang*.so*)
  local file
  for file in "${found[@]}"; do [ -e "$file" ] && return 0; done
  return 1
}

case ${1:-build} in
build) needs=$build_needs ;;
e2e) needs=$e2e_needs ;;
tests) needs=$build_needs$tests_needs ;;
compare) needs=$e2e_needs$compare_needs ;;
deploy) needs=$deploy_needs ;;
emulators)
  # One that is in PATH is used as it is.
  ! command -v azurite-blob >/dev/null || exit 0
  needs=$emulators_needs
  ;;
compare-archive) needs=$build_needs$tests_needs$compare_archive_needs ;;
*)
  echo "usage: deps.sh [build|tests|e2e|compare|compare-archive|emulators|deploy]" >&2
  exit 2
  ;;
esac

missing=()
while IFS='|' read -r check package; do
  [ -n "${package// /}" ] || continue
  # shellcheck disable=SC2086 # the words of the check are words
  if ! $check >/dev/null 2>&1; then missing+=("${package// /}"); fi
done <<<"$needs"

if ! command -v cargo >/dev/null; then
  echo "deps: cargo is missing: install Rust from https://rustup.rs (rust-toolchain.toml picks the version)" >&2
  exit 1
fi

# Installs Debian packages.
install_packages() {
  if ! command -v apt-get >/dev/null; then
    echo "deps: missing: $* (Debian's names); this machine has no apt-get, please install them yourself" >&2
    exit 1
  fi
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "deps: missing: $*; neither root nor sudo here: apt-get install $*" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "deps: installing $*"
  export DEBIAN_FRONTEND=noninteractive
  if ! ${as_root[@]+"${as_root[@]}"} apt-get install -y --no-install-recommends "$@"; then
    # The package lists may be old or absent.
    ${as_root[@]+"${as_root[@]}"} apt-get update
    ${as_root[@]+"${as_root[@]}"} apt-get install -y --no-install-recommends "$@"
  fi
}

# Builds the programs of the list from their crates, with the dependencies that their authors locked.
install_peers() {
  local root=${CAIRN_PEERS:-$HOME/.cache/cairn/peers} program crate version features
  while IFS='|' read -r program crate version features; do
    program=${program// /} crate=${crate// /} version=${version// /} features=${features// /}
    [ -n "$program" ] || continue
    if [ -x "$root/bin/$program" ] && "$root/bin/$program" --version | grep -qF "$version"; then continue; fi
    echo "deps: building $crate $version; this takes minutes"
    # Not with this project's compiler and target directory: in a directory of no project.
    (cd / && CARGO_TARGET_DIR=$root/target cargo install --quiet --locked --root "$root" "--version=$version" ${features:+"$features"} "$crate" </dev/null)
    rm -rf "$root/target"
  done <<<"$peers"
}

# Azurite, Microsoft's emulator of Azure Blob Storage. Later ones need a newer Node.js than Debian 12 has.
install_azurite() {
  local version=3.35.0 root=$HOME/.cache/cairn/emulators
  local place=$root/azurite-$version program=node_modules/.bin/azurite-blob
  if [ ! -e "$place/$program" ]; then
    echo "deps: installing Azurite $version into $place"
    mkdir -p "$root"
    local new
    new=$(mktemp -d "$root/new.XXXXXX")
    # A half installed one is never seen; of two that install at once, the first stays.
    if ! npm install --prefix "$new" --no-audit --no-fund --prefer-offline --ignore-scripts --loglevel error "azurite@$version"; then
      rm -rf "$new"
      echo "deps: Azurite cannot be installed: npm install azurite@$version failed" >&2
      return 1
    fi
    mv -T "$new" "$place" || rm -rf "$new"
  fi
  mkdir -p "$root/bin"
  ln -sfn "$place/$program" "$root/bin/azurite-blob"
}

# JuiceFS, whose clone is one of the engines. Its module cannot be installed by name, as it replaces some of its dependencies; and of the stores and
# databases that it speaks to, the tests need a directory and badger.
install_juicefs() {
  local version=1.1.2 root=$HOME/.cache/cairn/juicefs
  if [ -x "$root/juicefs-$version" ]; then return 0; fi
  echo "deps: building JuiceFS $version; this takes minutes"
  local new source
  mkdir -p "$root"
  new=$(mktemp -d "$root/new.XXXXXX")
  # shellcheck disable=SC2016 # awk's own
  source=$(cd "$new" && GOFLAGS=-mod=mod GOPATH=$new/path go mod download -json "github.com/juicedata/juicefs@v$version" | awk -F'"' '$2 == "Dir" { print $4 }')
  cp -r "$source" "$new/source"
  chmod -R u+w "$new"
  local without=nogateway,nowebdav,nocos,nobos,nohdfs,noibmcos,noobs,nooss,noqingstor,noscs,nosftp,noswift,noupyun,noazure,nogs,noufile,nob2,nonfs,nodragonfly
  without=$without,nosqlite,nomysql,nopg,notikv,noetcd,nos3,noredis
  (cd "$new/source" && GOFLAGS=-mod=mod GOPATH=$new/path GOCACHE=$new/cache go build -buildvcs=false -tags "$without" -ldflags '-s -w' -o "$new/juicefs" .)
  # A half built one is never seen; of two that build at once, the last stays.
  mv "$new/juicefs" "$root/juicefs-$version"
  ln -sfn "juicefs-$version" "$root/juicefs"
  chmod -R u+w "$new"
  rm -rf "$new"
}

# helm and kustomize from their sources by the Go module proxy: Debian has neither. xtask/src/deploy/tools.rs knows the same versions. kubectl must be
# there; it is what people have.
install_deploy_tools() {
  local tools=$HOME/.cache/cairn/tools program version module
  while read -r program version module; do
    [ -n "$program" ] || continue
    [ ! -x "$tools/$program-$version/$program" ] || continue
    if ! command -v go >/dev/null; then
      echo "deps: $program $version is missing, and so is Go to build it (https://go.dev/dl): the checks that need it are left out" >&2
      continue
    fi
    echo "deps: building $program $version"
    # In a directory of no module; a half built one is never seen.
    if ! (cd / && GOBIN=$tools/new-$program-$$ go install -trimpath -ldflags "-s -w" "$module@v$version"); then
      echo "deps: $program $version cannot be built: go install $module@v$version failed" >&2
      rm -rf "$tools/new-$program-$$"
      continue
    fi
    mv -T "$tools/new-$program-$$" "$tools/$program-$version" || rm -rf "$tools/new-$program-$$"
  done <<'LIST'
helm 3.20.2 helm.sh/helm/v3/cmd/helm
kustomize 5.8.1 sigs.k8s.io/kustomize/kustomize/v5
LIST
  command -v kubectl >/dev/null || echo "deps: kubectl is missing (https://kubernetes.io/docs/tasks/tools): the checks that need it are left out" >&2
}

if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
if [ "${1:-build}" = tests ]; then install_juicefs; fi
if [ "${1:-build}" = compare-archive ]; then install_peers; fi
if [ "${1:-build}" = emulators ]; then install_azurite; fi
if [ "${1:-build}" = deploy ]; then install_deploy_tools; fi
