#!/usr/bin/env bash
# Holds the alerts of docs/metrics.md against the real promtool: run.sh PEERS. Their syntax, what each calls for and what not, and that each is
# tried at all.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
promtool=$1/promtool
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# The first block that begins with groups.
awk '/^```/ { inside = 0 } inside { print } /^```yaml$/ && !done { getline; if ($0 == "groups:") { print; inside = done = 1 } }' \
  "$here/../../docs/metrics.md" >"$place/rules.yaml"
cp "$here/alerts.test.yaml" "$place/"
"$promtool" check rules --lint=all --lint-fatal "$place/rules.yaml"
"$promtool" test rules "$place/alerts.test.yaml"
alerts=$(sed -nE 's/^ *- alert: ([A-Za-z]+).*/\1/p' "$place/rules.yaml")
[ -n "$alerts" ]
for alert in $alerts; do
  grep -q "alertname: $alert\$" "$place/alerts.test.yaml" || { echo "no test of $alert in alerts.test.yaml"; exit 1; }
done
echo "$(wc -w <<<"$alerts") alerts, all tried"
