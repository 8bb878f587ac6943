#!/bin/sh
# Builds with ggr, cleans, builds again from the cache, and runs the program.
set -eu
cd "$(dirname "$0")"
ggr=${GGR:-ggr}

"$ggr" make -j8
make -s clean
"$ggr" make -j8
./hello ggr
make -q
