#!/usr/bin/env bash
# Puts the few Node tools the contract checks need into .work/node; prints the folder of their executables.
# Versions are fixed here; nothing is committed, since npm's lock files record where a package came from.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(@bufbuild/buf@1.75.0 @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1)
home=.work/node
stamp=$home/.installed

fail() { echo "node: $1" >&2; exit 1; }

get_npm() {
  command -v npm >/dev/null && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "npm is missing and buf comes by it; install Node.js with npm (Debian: apt-get install nodejs npm), then repeat"
  fi
  echo "node: installing nodejs and npm by apt-get" >&2
  apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends nodejs npm >/dev/null ||
    fail "apt-get could not install nodejs and npm; install them by hand, then repeat"
}

mkdir -p "$home"
exec 9>"$home/.lock"
flock 9
if [ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ] || [ ! -x "$home/node_modules/.bin/buf" ]; then
  get_npm
  npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix "$home" "${packages[@]}" >&2 ||
    fail "npm could not install ${packages[*]}"
  echo "${packages[*]}" >"$stamp"
fi
echo "$PWD/$home/node_modules/.bin"
