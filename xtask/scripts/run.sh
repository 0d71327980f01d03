#!/usr/bin/env bash
# Runs cairnd in the foreground on a data directory, with a workspace in it, and says how to use it.
# usage: run.sh DIRECTORY-OF-PROGRAMS DATA-DIRECTORY [ARGUMENT-OF-CAIRND...]
set -euo pipefail

programs=$1 data=$2
shift 2
mkdir -p "$data"
data=$(cd "$data" && pwd -P)
export CAIRN_SOCKET=$data/cairnd.sock

# In a session of its own, so that Ctrl-C reaches it once, through the trap below; it ends with this script.
setsid setpriv --pdeathsig TERM -- "$programs/cairnd" --data-dir "$data" --rpc-socket "$CAIRN_SOCKET" "$@" &
daemon=$!
stop() { kill -TERM "$daemon" 2>/dev/null || true; }
trap stop INT TERM HUP

# wait(1) returns early when a trapped signal arrives: the daemon is then about to end.
ended() {
  local status=0
  while kill -0 "$daemon" 2>/dev/null; do
    status=0
    wait "$daemon" || status=$?
  done
  wait "$daemon" 2>/dev/null || status=$?
  exit "$status"
}

tries=0
# It answers before its stores are open: what needs them tells when it is ready.
until "$programs/cairn" workspace list >/dev/null 2>&1; do
  kill -0 "$daemon" 2>/dev/null || ended
  tries=$((tries + 1))
  if [ "$tries" -gt 600 ]; then
    echo "run: cairnd does not answer on $CAIRN_SOCKET" >&2
    stop
    ended
  fi
  sleep 0.1
done
"$programs/cairn" workspace show main >/dev/null 2>&1 || "$programs/cairn" workspace create main >/dev/null

cat <<END

Cairn is running. Its data is in $data
(workspaces, snapshots, log; delete the directory to start anew).

Mount the workspace "main" on this machine (as root):

    mkdir -p /mnt/main
    $("$programs/cairn" mount-command main /mnt/main)

Further commands, in another terminal:

    export CAIRN_SOCKET=$CAIRN_SOCKET PATH=$programs:\$PATH
    cairn workspace create NAME
    cairn snapshot main --note "before the change"
    cairn history main
    cairn restore main latest

Ctrl-C stops it in order.
END
ended
