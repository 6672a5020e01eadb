#!/usr/bin/env bash
# Makes .venv exactly what requirements.lock says, with hashes, and installs the project into it in editable form.
# Needs python3 (3.11 or newer) with venv, nothing else. Does nothing when nothing changed since the last run.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.steelyard-installed
python=${PYTHON:-python3}

fail() { echo "setup: $1" >&2; exit 1; }

# The folder is part of the answer: an editable installation points into it.
wanted=$( { pwd; cat requirements.lock pyproject.toml tools/setup.sh; } | sha256sum)
installed() { [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; }

mkdir -p .work
exec 9>.work/setup.lock
flock 9
if installed; then exit 0; fi

make_venv() {
  command -v "$python" >/dev/null || fail "$python is missing; install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11; name a newer one with PYTHON=..."
  "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv; install it (Debian: apt-get install python3-venv)"
  "$python" -m venv "$venv"
}

# uv installs the whole lock in seconds; it is itself taken from the lock, by pip, with its hashes.
bootstrap_uv() {
  awk '/^uv==/ {ours = 1} /^[^ #]/ && !/^uv==/ {ours = 0} ours' requirements.lock >.work/uv.lock
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r .work/uv.lock
}

# uv reads neither pip's configuration nor pip's certificate variable; what was set for pip counts for uv as well.
teach_uv() {
  local index
  index=$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)
  index=${PIP_INDEX_URL:-$index}
  if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then export UV_DEFAULT_INDEX=$index; fi
  if [ -n "${PIP_CERT:-}" ] && [ -z "${SSL_CERT_FILE:-}" ]; then export SSL_CERT_FILE=$PIP_CERT; fi
  export UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_NO_PROGRESS=1
}

install_lock() {
  teach_uv
  if "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock; then return; fi
  echo "setup: uv could not install the lock; pip does it, more slowly" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
}

started=$SECONDS
[ -x "$venv/bin/python" ] || make_venv
echo "setup: installing $(grep -c '==' requirements.lock) locked packages into $venv" >&2
[ -x "$venv/bin/uv" ] || bootstrap_uv
install_lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
echo "$wanted" >"$stamp"
echo "setup: done in $((SECONDS - started)) s" >&2
