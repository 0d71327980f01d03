#!/usr/bin/env bash
# Builds a real kube-apiserver and etcd from their published sources, for tests that hold our API server to the same
# rules: `make test-kube`. Prints the directory, which is what KUBEBUILDER_ASSETS wants. Needs Go 1.24 or newer and the
# Go module proxy; takes some minutes and 1 GB once, then nothing.
set -euo pipefail

kubernetes=v1.34.4
etcd=v3.6.5
proxy=${GOPROXY:-https://proxy.golang.org}
proxy=${proxy%%,*}
cache=${CAIRN_CACHE:-$HOME/.cache/cairn}/kubebuilder
bin=$cache/$kubernetes-$etcd

if [[ -x $bin/kube-apiserver && -x $bin/etcd ]]; then
    echo "$bin"
    exit 0
fi
command -v go >/dev/null || {
    echo "kubebuilder-assets: Go is not installed; install Go 1.24 or newer (https://go.dev/dl)" >&2
    exit 1
}

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir -p "$bin"

# A module of our own that needs the program, so that versions come from go.mod and sums are checked by the proxy.
build() { # directory package module version linker-flags program
    (
        cd "$1"
        cat >tools.go <<GO
//go:build tools

package tools

import _ "$2"
GO
        go mod tidy >/dev/null 2>&1
        go build -trimpath -ldflags "-s -w $5" -o "$bin/.$6" "$2"
    )
    mv "$bin/.$6" "$bin/$6"
}

echo "kubebuilder-assets: building etcd $etcd" >&2
mkdir "$work/etcd"
cat >"$work/etcd/go.mod" <<GO
module assets

go 1.24.0

require go.etcd.io/etcd/server/v3 $etcd
GO
build "$work/etcd" go.etcd.io/etcd/server/v3 go.etcd.io/etcd/server/v3 "$etcd" "" etcd

echo "kubebuilder-assets: building kube-apiserver $kubernetes" >&2
mkdir "$work/kubernetes"
cat >"$work/kubernetes/go.mod" <<GO
module assets

go 1.24.0

require k8s.io/kubernetes $kubernetes
GO
# Kubernetes names its staging modules by directories; published, they have versions of their own.
staging=v0.${kubernetes#v1.}
modules=$(curl -fsS "$proxy/k8s.io/kubernetes/@v/$kubernetes.mod" | grep -oE 'k8s.io/[a-z-]+ => ' | cut -d' ' -f1 | sort -u)
for module in $modules; do
    (cd "$work/kubernetes" && go mod edit -replace "$module=$module@$staging")
done
minor=${kubernetes#v1.}
stamp=k8s.io/component-base/version
build "$work/kubernetes" k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes "$kubernetes" \
    "-X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}" kube-apiserver

echo "$bin"
