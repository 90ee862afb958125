#!/usr/bin/env bash
# The same kubectl commands against daymark's API and the real one: run.sh DAYMARK PEERS.
# Says where output, errors or exit code differ beyond the list of differences; exit code 1 if anything does.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
daymark=$(realpath "$1")
peers=$(realpath "$2")
out=$(mktemp -d)
trap 'for side in embedded real; do "$daymark" lab down --name "kubectl-$side-$$" 2>/dev/null; done' EXIT

# What no two clusters have alike: identities, times, ages, random names, ports of this run.
normalise() {
  sed -E \
    -e 's/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/UID/g' \
    -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/TIME/g' \
    -e 's/[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]+ [+-][0-9]{4}/TIME/g' \
    -e 's#lab://[0-9]+#lab://PID#' \
    -e 's/(resourceVersion"?: )"[0-9]+"/\1VERSION/' \
    -e 's/(web|again|balancer|one)-[bcdfghjklmnpqrstvwxz2456789]{5}\b/\1-RANDOM/g' \
    -e 's/10\.244\.1\.[0-9]+/POD-IP/g' \
    -e 's/ +[0-9]+(ms|s|m[0-9]*s?)( |$)/ AGE\2/' \
    -e 's#/tmp/(LIVE|MERGED)-[0-9]+#/tmp/\1#g' \
    -e 's/^(---|\+\+\+) (.*)\t[0-9].*/\1 \2/' \
    -e 's/ {2,}/  /g' -e 's/ +$//'
}

ask() { # side, number, command
  export KUBECONFIG=$out/$1.kubeconfig HOME=$out/$1 KUBE_EDITOR="sed -i s/targetPort:.9090/targetPort:\ 9091/"
  (cd "$here/manifests" && eval "timeout 60 '$peers/kubectl' $3") >"$out/$1.stdout" 2>"$out/$1.stderr" </dev/null
  local code=$?
  cp "$out/$1.stdout" "$out/$2.$1.raw"
  { echo "exit code $code"; normalise <"$out/$1.stdout"; echo "-- stderr"; normalise <"$out/$1.stderr"; } >"$out/$2.$1"
  return $code
}

"$daymark" lab up --nodes 1 --name "kubectl-embedded-$$" >/dev/null || exit 1
"$daymark" lab up --nodes 1 --name "kubectl-real-$$" --peers "$peers" >/dev/null || exit 1
for side in embedded real; do
  mkdir -p "$out/$side"
  cp "$("$daymark" lab kubeconfig --name "kubectl-$side-$$")" "$out/$side.kubeconfig"
done

number=0 bad=0 same=0 listed=0
while IFS= read -r line; do
  case $line in '' | '#'*) continue ;; esac
  number=$((number + 1))
  command=${line#-}
  wanted=0
  [ "$command" = "$line" ] || wanted=1
  reason=$(awk -F '\t' -v command="$command" '$1 == command { print $2 }' "$here/differences")
  for side in embedded real; do
    ask $side $number "$command"
    ended=$(($? != 0))
    if [ $ended != $wanted ] && ! { [ -n "$reason" ] && [ $side = embedded ]; }; then
      echo "kubectl $command: exit code of the $side API: $(head -n 1 "$out/$number.$side" | cut -d' ' -f3)"
      cat "$out/$number.$side"
      bad=$((bad + 1))
    fi
  done
  if difference=$(diff -u --label embedded --label real "$out/$number.embedded" "$out/$number.real"); then
    same=$((same + 1))
    if [ -n "$reason" ]; then
      echo "kubectl $command: listed in differences, but there is none"
      bad=$((bad + 1))
    fi
  elif [ -n "$reason" ]; then
    listed=$((listed + 1))
  else
    printf 'kubectl %s: differs\n%s\n' "$command" "$difference"
    bad=$((bad + 1))
  fi
done <"$here/commands"

echo "kubectl: $number commands, $same alike, $listed differ as listed, $bad wrong"
if [ $bad = 0 ]; then
  rm -rf "$out"
else
  echo "the answers are in $out"
  exit 1
fi
