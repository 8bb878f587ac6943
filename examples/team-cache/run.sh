#!/bin/sh
# Four machines at one bucket: a pull request, a push, another pull request, a laptop.
set -eu
cd "$(dirname "$0")"
GGR=${GGR:-ggr}
export GGR
: "${GGR_STORE:?set it to s3://BUCKET/PREFIX}"
export GGR_STORE
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# Each machine is new: no objects, and no repository of its own.
machine() {
    make -s clean
    rm -rf .ggr
    echo "== $1"
    shift
    "$@" >"$said" 2>&1 || { cat "$said"; exit 1; }
    cat "$said"
}

# What the summary says of the bucket must hold this.
expect() {
    grep -q "$1" "$said" || { echo "expected: $1"; exit 1; }
}

machine 'a pull request, before anybody has built' ./ci.sh pull_request
expect ' 0 put into it'
machine 'a push to the main branch' ./ci.sh push
expect ' [1-9][0-9]* put into it'
machine 'a pull request' ./ci.sh pull_request
expect ' [1-9][0-9]* from it, 0 put into it'
machine 'a laptop' "$GGR" --store-mode read-only make -j4
expect ' [1-9][0-9]* from it, 0 put into it'
./hello
