#!/usr/bin/env bash
# Builds the real programs from their Go modules into a folder: build.sh DIR [kubernetes] [etcd] [coredns] [prometheus].
# A part that was built from the same go.mod, go.sum and script is left as it is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
mkdir -p "$out"
out=$(cd "$out" && pwd)
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local

# The version that the programs say they have: what a release build links in (component-base/version).
kubernetes_version=$(sed -nE 's|^(require)?[[:space:]]+k8s.io/kubernetes (v[0-9.]+).*|\2|p' "$here/kubernetes/go.mod")
source "$here/version.sh"

build() { # part, linker flags, output, packages...
  local part=$1 flags=$2 target=$3
  shift 3
  (cd "$here/$part" && go build -trimpath -ldflags "$flags" -o "$target" "$@")
}

for part in "$@"; do
  stamp=$out/.$part
  sum=$(cat "$here/build.sh" "$here/version.sh" "$here/$part/go.mod" "$here/$part/go.sum" | sha256sum)
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
    continue
  fi
  echo "building $part (minutes, once)"
  case $part in
    kubernetes)
      # One after the other: all at once needs more memory than small machines have.
      for program in kube-proxy kube-apiserver kube-controller-manager kubectl; do
        build kubernetes "$(linked "$kubernetes_version")" "$out/" "k8s.io/kubernetes/cmd/$program"
      done
      ;;
    etcd) build etcd "-s -w" "$out/etcd" go.etcd.io/etcd/server/v3 ;;
    coredns) build coredns "-s -w" "$out/coredns" github.com/coredns/coredns ;;
    # Rules are all that it is for: without what finds services, of which most of it is.
    prometheus) build prometheus "-s -w" "$out/promtool" -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool ;;
    *)
      echo "no such part: $part (kubernetes, etcd, coredns, prometheus)" >&2
      exit 2
      ;;
  esac
  echo "$sum" >"$stamp"
done
