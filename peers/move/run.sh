#!/usr/bin/env bash
# The move of docs/from-kube-proxy.md and the way back, on a node of a lab under load: run.sh DAYMARK PEERS [MODE...].
# In each mode: kube-proxy serves, ends, daymark takes over and removes what it left, ends, kube-proxy serves again, and
# `daymark cleanup` removes daymark's. Meanwhile new connections from a Pod, the node and outside are counted: none may fail.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
daymark=$(realpath "$1")
peers=$(realpath "$2")
shift 2
# kube-proxy runs iptables itself.
[ $# -gt 0 ] || { set -- nftables; "$here/../need.sh" iptables && set -- nftables iptables; }
# kube-proxy's mode ipvs serves by a kernel module.
case " $* " in
  *" ipvs "*) ;;
  *) [ -e /proc/net/ip_vs ] && why="it was never tried; name the mode to try it" || why="this kernel has no ip_vs"
    echo "skipped: the move from mode ipvs: $why" ;;
esac
lab=move-$$
out=$(mktemp -d)
trap '"$daymark" lab down --name "$lab" >/dev/null 2>&1; rm -rf "$out"' EXIT

fail() { echo "move ($mode): $*"; tail -n 20 "$out"/*.log 2>/dev/null; exit 1; }
on() { local place=$1; shift; "$daymark" lab exec --name "$lab" "$place" -- "$@"; }
# Commands of the node's shell: what they leave in the background stays.
node() { on node-2 sh -c "$1"; }
healthy() { # who
  for _ in $(seq 100); do
    node "curl -sf -o /dev/null http://127.0.0.1:10256/healthz" && return 0
    sleep 0.1
  done
  fail "$1 is not healthy within 10 s"
}
rules() { node "nft list tables 2>/dev/null; nft list ruleset 2>/dev/null | grep -o 'KUBE-SERVICES' | sort -u"; }
start_kube_proxy() {
  node "'$peers/kube-proxy' --config '$out/kube-proxy.config' >>'$out/kube-proxy.log' 2>&1 & echo \$! >'$out/kube-proxy.pid'"
  healthy kube-proxy
}
start_daymark() {
  node "'$daymark' node --config '$out/daymark.config' --socket '$out/node.sock' >>'$out/daymark.log' 2>&1 & echo \$! >'$out/daymark.pid'"
  healthy daymark
}
end() { # kube-proxy | daymark
  node "kill \$(cat '$out/$1.pid'); while kill -0 \$(cat '$out/$1.pid') 2>/dev/null; do sleep 0.05; done"
}

mode=up
"$daymark" lab up --nodes 2 --name "$lab" --peers "$peers" >/dev/null || exit 1
state=$(dirname "$("$daymark" lab kubeconfig --name "$lab")")
export KUBECONFIG=$state/kubeconfig
"$peers/kubectl" apply -f "$here/manifest.yaml" >/dev/null || fail "the manifest"
"$peers/kubectl" wait --for=condition=Ready pod --all --timeout=30s >/dev/null || fail "the Pods"
cluster_ip=$("$peers/kubectl" get service web -o 'jsonpath={.spec.clusterIP}')
node_port=$("$peers/kubectl" get service web -o 'jsonpath={.spec.ports[0].nodePort}')
# What daymark is installed by is taken by the real API as it stands, but for the image.
"$peers/kubectl" apply --dry-run=server --validate=strict -f "$here/../../deploy/node.yaml" -f "$here/../../deploy/load-balancer.yaml" \
  -f "$here/../../deploy/cleanup.yaml" >"$out/manifests.log" 2>&1 || fail "deploy/"
# The lab's own agent ends for good, and its tables go.
node 'agent=$(pgrep -f "[d]aymark[^ ]* node --node-name node-2"); kill $agent; while kill -0 $agent 2>/dev/null; do sleep 0.05; done'
on node-2 "$daymark" cleanup --daymark >/dev/null || fail "cleaning up"

failed=0
for mode in "$@"; do
  cat >"$out/config" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $mode
hostnameOverride: node-2
clusterCIDR: 10.244.0.0/16,fd00:10:244::/48
clientConnection: {kubeconfig: "KUBECONFIG"}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  # daymark has the rights of its manifest alone.
  sed "s|KUBECONFIG|$state/kubeconfig.lab|" "$out/config" >"$out/kube-proxy.config"
  sed "s|KUBECONFIG|$state/kubeconfig.agent-node-2|" "$out/config" >"$out/daymark.config"
  start_kube_proxy
  sleep 2
  # From a Pod of the node, from the node itself, and from outside.
  loads=()
  for load in "pod/client $cluster_ip:80" "node-2 $cluster_ip:80" "outside 172.30.0.12:$node_port"; do
    read -r place target <<<"$load"
    name=$mode-${place#*/}
    on "$place" sh -c "echo \$\$ >'$out/$name.pid'; exec '$daymark' ask '$target' --count 100000 --rate 50 --timeout 5" >"$out/$name.load" &
    loads+=($!)
  done
  sleep 1
  end kube-proxy
  start_daymark
  for _ in $(seq 50); do rules | grep -q 'kube-proxy\|KUBE-SERVICES' || break; sleep 0.1; done
  rules | grep 'kube-proxy\|KUBE-SERVICES' && fail "kube-proxy's rules are still there"
  rules | grep -q daymark || fail "daymark has no tables"
  grep -i forbidden "$out/daymark.log" && fail "its manifest does not grant what daymark asks for"
  sleep 1
  end daymark
  # As deploy/cleanup.yaml does it: nobody waits for kube-proxy but the command.
  on node-2 "$daymark" cleanup --daymark --socket "$out/node.sock" --once-healthy 127.0.0.1:10256 >"$out/cleanup.log" &
  cleanup=$!
  start_kube_proxy
  wait $cleanup || fail "daymark cleanup"
  rules | grep daymark && fail "daymark's tables are still there"
  sleep 2
  # It is the one inside that asks.
  on fabric sh -c "kill \$(cat '$out/$mode'-*.pid)"
  wait "${loads[@]}" 2>/dev/null
  for place in client node-2 outside; do
    good=$(grep -c ' ok ' "$out/$mode-$place.load")
    bad=$(grep -c ' error ' "$out/$mode-$place.load")
    echo "move ($mode): from $place: $good connections, $bad failed"
    [ "$bad" = 0 ] || { grep ' error ' "$out/$mode-$place.load" | head -n 5; failed=1; }
    [ "$good" -gt 200 ] || { echo "move ($mode): too few to tell"; failed=1; }
  done
  end kube-proxy
  node "'$peers/kube-proxy' --config '$out/kube-proxy.config' --cleanup" >/dev/null 2>&1
done
exit $failed
