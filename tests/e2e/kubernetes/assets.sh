#!/bin/sh
# kube-apiserver and etcd for the tests, into a folder (KUBEBUILDER_ASSETS): `tests/e2e/kubernetes/assets.sh FOLDER`.
# kube-apiserver is built from its own Go module (some minutes, once); etcd is Debian's.
set -eu

version=v1.34.4
modules=v0.34.4 # its parts, which the module itself replaces by folders
folder=${1:?folder}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ ! -x "$folder/etcd" ]; then
    etcd=$(command -v etcd || true)
    if [ -z "$etcd" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends etcd-server >/dev/null
        etcd=$(command -v etcd)
    fi
    [ -n "$etcd" ] || { echo "etcd is missing. Try: apt install etcd-server" >&2; exit 1; }
    ln -sf "$etcd" "$folder/etcd"
fi

if [ ! -x "$folder/kube-apiserver" ]; then
    command -v go >/dev/null || { echo "Go is missing. Try: apt install golang, or https://go.dev/dl" >&2; exit 1; }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    go mod init assets 2>/dev/null
    module=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    {
        echo "module assets"
        sed -e '/^module /d' -e '/^\/\//d' -e "s#=> ./staging/src/\(\S*\)#=> \1 $modules#" "$module"
        echo "require k8s.io/kubernetes $version"
    } >go.mod
    printf 'package assets\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver/app"\n' >assets.go
    echo "building kube-apiserver $version ..."
    stamp=k8s.io/component-base/version
    go build -mod=mod -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=34" \
        -o "$folder/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
fi
ls -l "$folder"
