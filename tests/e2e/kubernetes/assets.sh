#!/bin/sh
# kube-apiserver and etcd for the tests, into a folder (KUBEBUILDER_ASSETS): `tests/e2e/kubernetes/assets.sh FOLDER`.
# kube-apiserver is built from its own Go module (some minutes, once); etcd is Debian's. Beside them kustomize and helm,
# which render deploy/, and the definitions of PodMonitor and PrometheusRule.
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
if [ ! -x "$folder/kustomize" ]; then
    echo "building kustomize ..."
    GOBIN=$folder go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
fi

if [ ! -x "$folder/helm" ]; then
    echo "building helm ..."
    GOBIN=$folder go install helm.sh/helm/v3/cmd/helm@v3.19.0
fi

for kind in podmonitors prometheusrules; do
    if [ ! -e "$folder/$kind.yaml" ]; then
        operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
        sources=$(cd / && go mod download -json "$operator" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        cp "$sources/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$folder/$kind.yaml"
    fi
done
ls -l "$folder"
