#!/usr/bin/env bash
# The move of docs/from-kube-proxy.md and the way back, on a node of a lab under load: run.sh DAYMARK PEERS [MODE...].
# In each mode, and by each sign that kube-proxy gives of having written its rules: kube-proxy serves, ends, daymark takes over
# and removes what it left, ends, kube-proxy comes again, and `daymark cleanup` removes daymark's, not before kube-proxy serves.
# Meanwhile new connections from a Pod, the node and outside are counted: none may fail.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
daymark=$(realpath "$1")
peers=$(realpath "$2")
shift 2
lab=move-$$
out=$(mktemp -d)
trap '"$daymark" lab down --name "$lab" >/dev/null 2>&1; rm -rf "$out"' EXIT

# kube-proxy runs the first iptables that it finds: one of this kind. Fails where it is not installed.
iptables_of() { # nft | legacy
  local program
  mkdir -p "$out/$1"
  for program in {ip,ip6}tables{,-save,-restore}; do
    ln -sf "$(command -v "${program/tables/tables-$1}")" "$out/$1/$program" || return
  done 2>/dev/null
}
[ $# -gt 0 ] || {
  set -- nftables
  "$here/../need.sh" iptables && for kind in nft legacy; do
    if iptables_of "$kind"; then set -- "$@" "iptables-$kind"; else echo "skipped: the move from mode iptables by iptables-$kind: it is not installed"; fi
  done
}
# kube-proxy's mode ipvs serves by a kernel module.
case " $* " in
  *" ipvs "*) ;;
  *) [ -e /proc/net/ip_vs ] && why="it was never tried; name the mode to try it" || why="this kernel has no ip_vs"
    echo "skipped: the move from mode ipvs: $why" ;;
esac

fail() { echo "move ($mode, $sign): $*"; tail -n 20 "$out"/*.log 2>/dev/null; exit 1; }
on() { local place=$1; shift; "$daymark" lab exec --name "$lab" "$place" -- "$@"; }
# Commands of the node's shell: what they leave in the background stays.
node() { on node-2 sh -c "$1"; }
kubectl() { "$peers/kubectl" "$@" >>"$out/kubectl.log" 2>&1; }
healthy() { # who
  for _ in $(seq 100); do
    node "curl -sf -o /dev/null http://127.0.0.1:10256/healthz" && return 0
    sleep 0.1
  done
  fail "$1 is not healthy within 10 s"
}
# All that netfilter holds, whoever wrote it.
ruleset() { node "nft list ruleset; for kind in nft legacy; do iptables-\$kind-save; ip6tables-\$kind-save; done" 2>/dev/null; }
# grep reads to the end, so that nobody writes to a pipe without a reader.
holds() { [ -n "$(ruleset | grep -o "$1")" ]; }
kube_proxys() { holds 'table ip6* kube-proxy\|KUBE-SERVICES'; }
# kube-proxy's rules name the Service that they are for.
written() { holds 'default/web'; }
daymarks() { holds 'table ip6* daymark'; }
start_kube_proxy() {
  node "PATH='$programs':\$PATH '$peers/kube-proxy' --config '$out/kube-proxy.config' >>'$out/kube-proxy.log' 2>&1 & echo \$! >'$out/kube-proxy.pid'"
  healthy kube-proxy
}
start_daymark() {
  node "'$daymark' node --config '$out/daymark.config' --socket '$out/node.sock' >>'$out/daymark.log' 2>&1 & echo \$! >'$out/daymark.pid'"
  healthy daymark
}
end() { # kube-proxy | daymark | cleanup
  node "kill \$(cat '$out/$1.pid'); while kill -0 \$(cat '$out/$1.pid') 2>/dev/null; do sleep 0.05; done"
}
# kube-proxy may read Nodes; Services and endpoints only while it is let: without, it is healthy and writes no rules.
let_see() { kubectl create clusterrolebinding follower --clusterrole=system:node-proxier --user=follower || fail "kubectl"; }
blind() {
  kubectl delete clusterrolebinding follower
  for _ in $(seq 100); do
    kubectl auth can-i list services --as=follower || return 0
    sleep 0.1
  done
  fail "the right to list Services stays"
}
# As deploy/cleanup.yaml does it: nobody waits for kube-proxy but the command.
cleanup() {
  node "echo \$\$ >'$out/cleanup.pid'; exec '$daymark' cleanup --daymark --socket '$out/node.sock' --once-healthy 127.0.0.1:10256 $*" >"$out/cleanup.log" 2>&1
}
waits() { # what for
  sleep 5
  kill -0 "$cleaning" 2>/dev/null || fail "daymark cleanup ended before $1"
  daymarks || fail "daymark's tables went before $1"
}

mode=up sign=none
"$daymark" lab up --nodes 2 --name "$lab" --peers "$peers" >/dev/null || exit 1
state=$(dirname "$("$daymark" lab kubeconfig --name "$lab")")
export KUBECONFIG=$state/kubeconfig
kubectl apply -f "$here/manifest.yaml" || fail "the manifest"
kubectl wait --for=condition=Ready pod --all --timeout=30s || fail "the Pods"
cluster_ip=$("$peers/kubectl" get service web -o 'jsonpath={.spec.clusterIP}')
node_port=$("$peers/kubectl" get service web -o 'jsonpath={.spec.ports[0].nodePort}')
# What daymark is installed by is taken by the real API as it stands, but for the image.
kubectl apply --dry-run=server --validate=strict -f "$here/../../deploy/node.yaml" -f "$here/../../deploy/load-balancer.yaml" \
  -f "$here/../../deploy/cleanup.yaml" || fail "deploy/"
# And so with the patches that kustomization.yaml has between signs of a comment.
cp -r "$here/../../deploy" "$out/deploy" && sed -i '/^# patches:/,$ s/^# \{0,1\}//' "$out/deploy/kustomization.yaml" &&
  kubectl apply --dry-run=server --validate=strict -k "$out/deploy" || fail "deploy/ with its patches"
# Who kube-proxy is, and daymark.
identity() { # file, user
  local name
  cp "$state/kubeconfig.lab" "$out/$1" && name=$("$peers/kubectl" config view --kubeconfig "$out/$1" -o 'jsonpath={.users[0].name}') &&
    kubectl config set "users.$name.act-as" "$2" --kubeconfig "$out/$1" || fail "the kubeconfig of $2"
}
identity kube-proxy.kubeconfig follower
identity daymark.kubeconfig system:serviceaccount:kube-system:daymark-node
kubectl create clusterrole follower --verb=get,list,watch --resource=nodes || fail "kubectl"
kubectl create clusterrolebinding follower-nodes --clusterrole=follower --user=follower || fail "kubectl"
# The lab's own agent ends for good, and its tables go.
node 'agent=$(pgrep -f "[d]aymark[^ ]* node --node-name node-2"); kill $agent; while kill -0 $agent 2>/dev/null; do sleep 0.05; done'
on node-2 "$daymark" cleanup --daymark >/dev/null || fail "cleaning up"

# By which sign `daymark cleanup` knows that kube-proxy has written its rules: its metrics, or nf_tables where nobody answers
# with metrics at the usual address. The second has nothing to go by with iptables-legacy and IPVS: it must wait in vain.
follow() {
  blind
  start_kube_proxy
  cleanup & cleaning=$!
  waits "kube-proxy could read a Service"
  written && fail "kube-proxy has written rules for what it may not read"
  let_see
  case $mode-$sign in
    iptables-legacy-nf_tables | ipvs-nf_tables)
      for _ in $(seq 300); do written && break; sleep 0.1; done
      waits "it could know that kube-proxy serves"
      end cleanup; wait "$cleaning"
      cleanup --metrics "$metrics" & cleaning=$! ;;
  esac
  wait $cleaning || { cat "$out/cleanup.log"; fail "daymark cleanup"; }
  written || fail "daymark's tables went before kube-proxy's rules for the Service were there"
  daymarks && fail "daymark's tables are still there"
}

round() {
  metrics=127.0.0.1:10249 programs=$out
  [ "$sign" = metrics ] || metrics=127.0.0.1:10239
  case $mode in iptables-*) programs=$out/${mode#*-}; iptables_of "${mode#*-}" || fail "is not installed" ;; esac
  cat >"$out/config" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${mode%-*}
hostnameOverride: node-2
clusterCIDR: 10.244.0.0/16,fd00:10:244::/48
clientConnection: {kubeconfig: "KUBECONFIG"}
metricsBindAddress: "METRICS"
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  # daymark has the rights of its manifest alone.
  sed "s|KUBECONFIG|$out/kube-proxy.kubeconfig|; s|METRICS|$metrics|" "$out/config" >"$out/kube-proxy.config"
  sed "s|KUBECONFIG|$out/daymark.kubeconfig|; s|METRICS|127.0.0.1:10249|" "$out/config" >"$out/daymark.config"
  let_see
  start_kube_proxy
  for _ in $(seq 100); do written && break; sleep 0.1; done
  written || fail "kube-proxy has written no rules"
  # From a Pod of the node, from the node itself, and from outside.
  loads=()
  for load in "pod/client $cluster_ip:80" "node-2 $cluster_ip:80" "outside 172.30.0.12:$node_port"; do
    read -r place target <<<"$load"
    on "$place" sh -c "echo \$\$ >'$out/load-${place#*/}.pid'; exec '$daymark' ask '$target' --count 100000 --rate 50 --timeout 5" >"$out/${place#*/}.load" &
    loads+=($!)
  done
  sleep 1
  end kube-proxy
  start_daymark
  for _ in $(seq 50); do kube_proxys || break; sleep 0.1; done
  kube_proxys && fail "kube-proxy's rules are still there"
  daymarks || fail "daymark has no tables"
  grep -i forbidden "$out/daymark.log" && fail "its manifest does not grant what daymark asks for"
  sleep 1
  end daymark
  follow
  sleep 2
  # It is the one inside that asks.
  on fabric sh -c "kill \$(cat '$out'/load-*.pid)"
  wait "${loads[@]}" 2>/dev/null
  for place in client node-2 outside; do
    good=$(grep -c ' ok ' "$out/$place.load")
    bad=$(grep -c ' error ' "$out/$place.load")
    echo "move ($mode, $sign): from $place: $good connections, $bad failed"
    [ "$bad" = 0 ] || { grep ' error ' "$out/$place.load" | head -n 5; failed=1; }
    [ "$good" -gt 200 ] || { echo "move ($mode, $sign): too few to tell"; failed=1; }
  done
  end kube-proxy
  node "PATH='$programs':\$PATH '$peers/kube-proxy' --config '$out/kube-proxy.config' --cleanup" >/dev/null 2>&1
  kubectl delete clusterrolebinding follower
}

failed=0
for mode in "$@"; do
  for sign in metrics nf_tables; do
    round
  done
done
exit $failed
