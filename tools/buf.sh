#!/usr/bin/env bash
# buf.sh lint | format | write | breaking | release | ANYTHING-ELSE-BUF-KNOWS ...
#   lint      every rule of buf.yaml          format    fails where a proto is not in buf's form (write mends it)
#   breaking  compares with the released contract (protos/released.binpb), else with the last commit
#   release   makes today's contract the one later changes may not break
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(tools/node.sh)
released=protos/released.binpb

# A descriptor needs no history, so the check also works in a shallow clone.
breaking() {
  if [ -e "$released" ]; then
    "$bin/buf" breaking protos --against "$released"
  else
    "$bin/buf" breaking protos --against ".git#ref=HEAD,subdir=protos"
  fi
}

case "${1:-}" in
  "") sed -n '2,5s/^# *//p' "$0"; exit 2 ;;
  format) "$bin/buf" format --diff --exit-code protos ;;
  write) "$bin/buf" format --write protos ;;
  breaking) breaking ;;
  release) .venv/bin/python tools/protos.py --baseline ;;
  *) "$bin/buf" "$@" ;;
esac
