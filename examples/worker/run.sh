#!/bin/sh
# Starts a service, builds a program at it, shows what it keeps warm, and has it end.
set -eu
cd "$(dirname "$0")"
ggr=${GGR:-ggr}
state=$(mktemp -d)
trap 'kill "$service" 2>/dev/null || true; rm -rf "$state"' EXIT

"$ggr" worker serve --dir "$state/service" --listen "unix:$state/socket" --slots 4 >"$state/said" &
service=$!
tries=0
until grep -q listening "$state/said"; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo "the service does not start" >&2; exit 1; }
    sleep 0.1
done

GGR_WORKER="unix:$state/socket"
export GGR_WORKER
"$ggr" --backend worker make -j4
./hello
"$ggr" worker status
"$ggr" worker drain
wait "$service"
make -q
