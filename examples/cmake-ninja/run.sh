#!/bin/sh
# Configures and builds with ggr, and runs the program.
set -eu
cd "$(dirname "$0")"
ggr=${GGR:-ggr}

"$ggr" cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release
"$ggr" ninja -C build
./build/hello ninja
ninja -C build -n
