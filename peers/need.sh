#!/usr/bin/env bash
# Says whether the real parts can be built and run here, and brings what a Debian package can bring: need.sh PROGRAM...
set -euo pipefail
missing=()
# The oldest Go that builds the modules.
go=$(sed -n 's/^go //p' "$(dirname "$0")/kubernetes/go.mod")
for program in "$@"; do
  if [ "$program" = go ] && command -v go >/dev/null; then
    have=$(GOTOOLCHAIN=local go env GOVERSION)
    printf '%s\n' "$go" "${have#go}" | sort -CV || missing+=("go $go (here is ${have#go}) is")
    continue
  fi
  command -v "$program" >/dev/null && continue
  case $program in
    nft) package=nftables ;;
    curl | iptables) package=$program ;;
    *) package= ;;
  esac
  if [ -n "$package" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y -qq "$package" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$package" >/dev/null; } || true
  fi
  command -v "$program" >/dev/null || missing+=("$program is")
done
[ ${#missing[@]} = 0 ] && exit 0
echo "skipped: $(printf '%s not installed; ' "${missing[@]}" | sed 's/; $//')"
[ -z "${DAYMARK_FAIL_ON_SKIP:-}" ] || exit 1
exit 3
