#!/bin/sh
# Builds with plain make and a compiler behind ggr.
set -eu
cd "$(dirname "$0")"
ggr=${GGR:-ggr}

make CC="$ggr cc gcc" -j2
./hello cc
make -q
