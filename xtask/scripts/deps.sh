#!/usr/bin/env bash
# Makes sure that what the build (with "e2e" the kernel-client tests, with "compare" the comparison through a kernel client,
# with "emulators" the tests against emulated object stores) needs from the system is there.
# Installs what is missing with apt, the emulators with npm into ~/.cache/cairn, and nothing if nothing is missing.
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
emulators_needs='
command -v node     | nodejs
command -v npm      | npm
'
compare_needs='
command -v ganesha.nfsd                  | nfs-ganesha
command -v rpcbind                       | rpcbind
ls /usr/lib/*/ganesha/libfsalvfs.so      | nfs-ganesha-vfs
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
compare) needs=$e2e_needs$compare_needs ;;
emulators)
  # One that is in PATH is used as it is.
  ! command -v azurite-blob >/dev/null || exit 0
  needs=$emulators_needs
  ;;
*)
  echo "usage: deps.sh [build|e2e|compare|emulators]" >&2
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

install_missing() {
  if ! command -v apt-get >/dev/null; then
    echo "deps: missing: ${missing[*]} (Debian's names); this machine has no apt-get, please install them yourself" >&2
    exit 1
  fi
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "deps: missing: ${missing[*]}; neither root nor sudo here: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "deps: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! ${as_root[@]+"${as_root[@]}"} apt-get install -y --no-install-recommends "${missing[@]}"; then
    # The package lists may be old or absent.
    ${as_root[@]+"${as_root[@]}"} apt-get update
    ${as_root[@]+"${as_root[@]}"} apt-get install -y --no-install-recommends "${missing[@]}"
  fi
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

[ ${#missing[@]} -eq 0 ] || install_missing
[ "${1:-build}" != emulators ] || install_azurite
