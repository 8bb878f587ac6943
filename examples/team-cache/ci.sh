#!/bin/sh
# What CI runs: `ci.sh EVENT`. Only builds of what has been reviewed may write to the team's cache; who opened a pull request could
# otherwise put a result of their own under the name of somebody else's source.
set -eu
cd "$(dirname "$0")"
case ${1:?usage: ci.sh push|pull_request} in
push) mode=read-write ;;
*) mode=read-only ;;
esac
ggr=${GGR:-ggr}

# Before the build: is the bucket there, and do these credentials allow what this build asks of it?
"$ggr" --store-mode "$mode" doctor | awk '/shared store/ { print; getline; if (/→/) print }'
exec "$ggr" --store-mode "$mode" make -j4
