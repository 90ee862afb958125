#!/usr/bin/env bash
# Builds an older control plane beside the programs of make peers: older.sh VERSION PEERS, for instance
#   peers/older.sh v1.33.13 target/peers/bin
# makes target/peers/bin/v1.33.13: kube-apiserver and kube-controller-manager of that release, and the others of make peers.
# The module is made here, out of the release's own go.mod: what that takes from its source tree comes from the staging
# modules of the same release. Kept, like what make peers builds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$1
[[ $version =~ ^v1\.([0-9]+)\.([0-9]+)$ ]] || { echo "older.sh: $version is no release like v1.33.13" >&2; exit 2; }
staging=v0.${BASH_REMATCH[1]}.${BASH_REMATCH[2]}
programs=(kube-apiserver kube-controller-manager)
mkdir -p "$2/$version"
out=$(cd "$2/$version" && pwd)
for other in etcd kube-proxy kubectl; do
  ln -sfn "../$other" "$out/$other"
done
export CGO_ENABLED=0 GOFLAGS=-mod=mod GOTOOLCHAIN=local
stamp=$out/.older
sum=$(cat "$here/older.sh" "$here/version.sh" | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
  exit 0
fi

module=$out/module
mkdir -p "$module"
cd "$module"
own=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's|^\t"GoMod": "\(.*\)",*$|\1|p')
[ -n "$own" ] || { echo "older.sh: k8s.io/kubernetes@$version is not to be had" >&2; exit 1; }
sed -e 's|^module .*|module daymark.example/peers/older|' \
  -e "s|^\(\t*\)\(k8s.io/[a-z0-9-]*\) => \./staging/.*|\1\2 => \2 $staging|" "$own" >go.mod
go mod edit -require="k8s.io/kubernetes@$version"
source "$here/version.sh"
echo "building ${programs[*]} $version (minutes, once)"
for program in "${programs[@]}"; do
  go build -trimpath -ldflags "$(linked "$version")" -o "$out/" "k8s.io/kubernetes/cmd/$program"
done
echo "$sum" >"$stamp"
