#!/bin/sh
# Traces a build, looks at it, and makes it.
set -eu
cd "$(dirname "$0")"
ggr=${GGR:-ggr}

"$ggr" trace make
"$ggr" show hello
"$ggr" show --tree hello
"$ggr" graph
"$ggr" force
./hello graph
make -q
