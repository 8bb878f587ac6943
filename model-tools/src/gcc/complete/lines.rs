//! The tree and the command lines that are tried.

/// The files that the command lines speak of.
pub(super) const TREE: &str = r#"
mkdir -p src inc sys 'sp ace' out deps empty real/deep
ln -s real link
printf '#include "a.h"\n#include <stdio.h>\nint f(int x) { return x + A; }\n' > src/a.c
printf '#define A 1\n#include "b.h"\n' > src/a.h
printf '#define B 2\n' > inc/b.h
printf '#include <stddef.h>\n#include <s.h>\nint g(int x) { return x * S; }\n' > src/b.c
printf '#define S 3\n' > sys/s.h
printf '#include <vector>\n#include <string>\n#include <map>\nstd::string f(const std::vector<int>& v) { return std::to_string(v.size()); }\n' > src/c.cc
printf 'int main(void) { return 0; }\n' > main.c
printf 'int main(void) { int unused; return undefined_thing; }\n' > bad.c
printf 'int f(int x) { int unused; if (x = 1) return 2; }\n' > warn.c
printf '#line 3 "g.y"\nint f(int x) { int unused; return 0; }\n' > gen.c
printf 'one\ntwo\nthree unused\nfour\n' > g.y
printf '\t.text\n\t.globl h\nh:\tret\n' > h.s
printf '#include "b.h"\n\t.text\n\t.globl h\nh:\tmov $B, %%eax\n\tret\n\t.section .note.GNU-stack\n' > k.S
printf '#include "../inc/b.h"\n#include "deep/x.h"\nint y = X + B;\n' > real/l.c
printf '#define X 4\n' > real/deep/x.h
printf '# 1 "main.c"\nint main(void) { int unused; return 0; }\n' > pre.i
printf '# 1 "main.cc"\nint main() { return 0; }\n' > pre.ii
printf '#if __has_include("b.h")\nint b = 1;\n#endif\n#if __has_include("none.h")\nint n;\n#endif\n' > probe.c
printf -- '-O2 -DFROM_FILE=1\n-I inc "-DQ=\\"q\\""\n' > flags.rsp
printf 'int z;\n' > 'sp ace/z z.c'
printf '#include "s.h"\nint s = S;\n' > 'sp ace/t.c'
printf 'int t(void) { return __LINE__; }\nconst char *n = __FILE__;\n' > file.c
printf '#ifdef __OPTIMIZE__\n#include "b.h"\n#else\n#include "s.h"\n#endif\nint o;\n' > cond.c
printf '#include <math.h>\n#include <pthread.h>\n#include <immintrin.h>\ndouble m(double x) { return sqrt(x); }\n' > math.c
mkdir -p pch/var.h.gch pch/two.h.gch pch/no.h.gch
for name in use var new two old gone flags; do
    printf '#pragma once\n#include "s.h"\n#include <stddef.h>\n#define P S\n' > pch/$name.h
    printf '#include "%s.h"\n#include "s.h"\nint p(int x) { int unused; return x + P; }\n' $name > pch/$name.c
done
cp pch/use.c pch/made.hxx.c
printf '/* made */\n' > pch/made.hxx.cxx
cp pch/use.h pch/made.hxx
printf 'int n;\n' > pch/none.c
gcc -Isys pch/use.h
gcc -Isys -O2 pch/flags.h -fexceptions
gcc -Isys pch/var.h -o pch/var.h.gch/c
gcc -Isys pch/two.h -o pch/two.h.gch/c
gcc -Isys pch/two.h -fexceptions -o pch/two.h.gch/x
gcc -Isys pch/old.h
printf '#pragma once\n#include "s.h"\n#define P 7\n' > pch/old.h
gcc -Isys pch/gone.h
rm pch/gone.h
g++ -Isys -x c++-header -include pch/made.hxx -o pch/made.hxx.gch -c pch/made.hxx.cxx
"#;

/// Each is modelled, and leaves the same here and there.
pub(super) const MODELLED: &[&str] = &[
    "gcc -c main.c",
    "gcc -c main.c -o out/m.o",
    "gcc -c main.c -oout/m.o",
    "cc -c main.c",
    "/usr/bin/gcc -c main.c",
    "gcc-12 -c main.c",
    "x86_64-linux-gnu-gcc-12 -c main.c",
    "gcc -c src/a.c -Iinc",
    "gcc -c src/a.c -I inc -I empty -I nowhere",
    "gcc -c src/a.c -Iinc -Wmissing-include-dirs -Inowhere",
    "gcc -c src/a.c -iquote inc -g",
    "gcc -c src/a.c -isystem inc -O2 -g",
    "gcc -c src/a.c -idirafter inc -O2 -g3",
    "gcc -c src/a.c -Iinc -Isys/../inc -g -O1",
    "gcc -c src/a.c -Isrc/../inc/. -ggdb",
    "gcc -c src/b.c -Isys -std=c99 -pedantic -Wall -Wextra",
    "gcc -c src/b.c -isystem sys -std=gnu11 -fPIC",
    "gcc -c src/b.c -Isys -O3 -march=haswell -mtune=skylake",
    "gcc -c src/b.c -Isys -m32",
    "gcc -c src/a.c src/b.c main.c -Iinc -Isys",
    "gcc -c src/a.c src/b.c -Iinc -Isys -MD",
    "gcc -S main.c",
    "gcc -S main.c -o out/m.s -O2",
    "gcc -S main.c -fverbose-asm",
    "gcc -S -masm=intel main.c -o out/i.s",
    "gcc -E main.c -o out/m.i",
    "gcc -E src/a.c -Iinc",
    "gcc -E -P src/a.c -Iinc",
    "gcc -E -dM src/a.c -Iinc",
    "gcc -E -dD src/a.c -Iinc -o out/d.i",
    "gcc -E -C -H src/a.c -Iinc",
    "cpp src/a.c -Iinc",
    "cpp -dM main.c",
    "g++ -E src/c.cc -o out/c.ii",
    "g++ -c src/c.cc",
    "g++ -c src/c.cc -std=c++20 -O2 -g -o out/c.o",
    "g++ -c src/c.cc -std=c++11 -fno-exceptions -fno-rtti -MMD",
    "c++ -c src/c.cc -Wall -MD -MF deps/c.d -MT x.o",
    "g++ -c main.c",
    "gcc -c src/c.cc",
    "gcc -x c++ -c main.c",
    "gcc -x c -c src/a.c -Iinc -x none main.c",
    "gcc -xc -c g.y -fsyntax-only",
    "gcc -c h.s",
    "gcc -c h.s -o out/h.o -g",
    "gcc -c h.s -Wa,--noexecstack -Wa,--fatal-warnings",
    "gcc -c k.S -Iinc",
    "gcc -c k.S -Iinc -MD -MP -g -o out/k.o",
    "gcc -x assembler-with-cpp -c h.s",
    "gcc -S h.s -c main.c",
    "gcc -c pre.i",
    "gcc -c pre.i -Wall",
    "g++ -c pre.ii -O2",
    "gcc -c -x cpp-output pre.i",
    "gcc -c src/a.c -Iinc -MD",
    "gcc -c src/a.c -Iinc -MMD",
    "gcc -c src/a.c -Iinc -MD -o out/a.o",
    "gcc -c src/a.c -Iinc -MMD -MP -MF deps/a.d -o out/a.o",
    "gcc -c src/a.c -Iinc -MD -MT one -MQ two$ -MF deps/a.d -o out/a.o",
    "gcc -c src/a.c -Iinc -MT out/a.o -MD -MP -MF deps/.a.Tpo -c -o out/a.o src/a.c -fsyntax-only",
    "gcc -Iinc -MT a.lo -MD -MP -MF deps/a.Tpo -c src/a.c -fPIC -DPIC -o out/a.o",
    "gcc -Wp,-MMD,deps/.a.o.d -Iinc -c -o out/a.o src/a.c",
    "gcc -Wp,-MD,deps/a.d -Iinc -c -o out/a.o src/a.c",
    "gcc -c src/a.c -Iinc -MD -MF /dev/null",
    "gcc -S src/a.c -Iinc -MD -o out/a.s",
    "gcc -E src/a.c -Iinc -MD -o out/a.i",
    "gcc -M src/a.c -Iinc",
    "gcc -MM src/a.c -Iinc",
    "gcc -MM src/a.c -Iinc -MT 'x.o x.d' -MF deps/x.d",
    "gcc -M src/b.c -MG",
    "gcc -c src/b.c -Isys -MD -MG",
    "gcc @flags.rsp -c src/a.c",
    "gcc -c src/a.c @flags.rsp",
    "gcc -c 'sp ace/z z.c'",
    "gcc -c 'sp ace/z z.c' -MD -o 'out/z z.o'",
    "gcc -c 'sp ace/t.c' -Isys '-DX=a b'",
    "gcc -c link/l.c",
    "gcc -c link/l.c -g -MD",
    "gcc -c link/deep/../l.c -g",
    "gcc -c ./main.c -o ./out/../out/m.o",
    "gcc -c main.c -o link/m.o",
    "gcc -c warn.c",
    "gcc -c warn.c -Wall -Wextra",
    "gcc -c warn.c -Wall -fdiagnostics-color=always",
    "gcc -c warn.c -Wall -fno-diagnostics-show-caret",
    "gcc -c warn.c -Wall -fdiagnostics-format=json",
    "gcc -c warn.c -w",
    "gcc -c gen.c -Wall",
    "gcc -c gen.c -Wall -g",
    "gcc -c bad.c",
    "gcc -c bad.c main.c",
    "gcc -c warn.c -Werror -Wall",
    "gcc -c main.c -Wno-what-is-this",
    "gcc -c warn.c -Wno-what-is-this -Wall",
    "gcc -fsyntax-only warn.c -Wall",
    "gcc -c probe.c -Iinc",
    "gcc -c probe.c",
    "gcc -c cond.c -O2 -Iinc -Isys -MD",
    "gcc -c cond.c -O0 -Iinc -Isys -MD",
    "gcc -c file.c -g -fdebug-prefix-map=/=/x",
    "gcc -c file.c -ffile-prefix-map=file=elif",
    "gcc -c file.c -fmacro-prefix-map=f=g -frandom-seed=7",
    "gcc -c math.c -O2 -mavx2 -ffast-math",
    "gcc -c math.c -O2 -fopenmp -pthread",
    "gcc -c math.c -Os -ffunction-sections -fdata-sections",
    "gcc -c math.c -fstack-protector-strong -D_FORTIFY_SOURCE=2 -O2 -fcf-protection",
    "gcc -c math.c -flto -O2 -frandom-seed=1",
    "gcc -c math.c -flto -ffat-lto-objects -frandom-seed=1",
    "gcc -c math.c -pipe -O1",
    "gcc -c math.c -O2 -march=native",
    "gcc -c math.c -O2 -mtune=native -mno-avx",
    "gcc -S math.c -O3 -march=native -mavx2",
    "gcc -c math.c -fsanitize=undefined",
    "gcc -c math.c -fsanitize=address -g",
    "gcc -c math.c -pg",
    "gcc -c math.c --param=max-inline-insns-single=5 -O2",
    "gcc -c math.c --param max-inline-insns-single=5 -O2",
    "gcc -c math.c -fprofile-generate -frandom-seed=1",
    "gcc -c main.c -include inc/b.h -MD",
    "gcc -c main.c -imacros inc/b.h -MD",
    "gcc -c main.c -include b.h -Iinc",
    "gcc -c main.c -include stdio.h -include src/a.h -Iinc",
    "gcc -c main.c -nostdinc",
    "gcc -c src/b.c -Isys -nostdinc -isystem /usr/lib/gcc/x86_64-linux-gnu/12/include",
    "gcc -c main.c -DA -DB=1 '-DC(x)=x' -UA -D D -U B",
    "gcc -c main.c -DS=\\\"text\\\"",
    "gcc -c main.c -ansi -trigraphs",
    "gcc -c main.c -undef",
    "gcc -c main.c -g -gdwarf-4 -gz",
    "gcc -c main.c -g -gsplit-dwarf",
    "gcc -c main.c -g -gsplit-dwarf -o out/m.o",
    "gcc -c main.c -fstack-usage",
    "gcc -c main.c -fstack-usage -o out/m.o",
    "gcc -c main.c -fcallgraph-info",
    "gcc -c main.c --coverage -frandom-seed=1 -o out/m.o",
    "gcc -c main.c -ftest-coverage -frandom-seed=1",
    "gcc -c main.c -save-temps",
    "gcc -c main.c -save-temps=obj -o out/m.o",
    "gcc -c src/a.c -Iinc -save-temps -g",
    "gcc -c main.c -fdump-tree-optimized -O2 -fdump-noaddr",
    "gcc -c main.c -dumpdir out/x- -dumpbase q.c -fstack-usage",
    "gcc -c main.c -dA",
    "gcc -c main.c -da",
    "gcc -c main.c -aux-info out/protos",
    "gcc -c main.c --sysroot=/",
    "gcc -c main.c -Xassembler --noexecstack",
    "gcc -c main.c -no-integrated-cpp",
    "gcc -c main.c -no-canonical-prefixes",
    "gcc -c main.c -finput-charset=UTF-8 -fexec-charset=UTF-8",
    "gcc -c main.c -Wl,-z,now -L/nowhere",
    "gcc main.c -o out/prog",
    "gcc main.c",
    "gcc main.c src/a.c src/b.c -Iinc -Isys -o out/prog -O2 -g",
    "gcc main.c k.S -Iinc -o out/prog -MD",
    "gcc main.c math.c -lm -lpthread -o out/prog",
    "gcc main.c -static -o out/prog",
    "gcc math.c -shared -fPIC -o out/libm.so -lm",
    "gcc main.c -flto -O2 -frandom-seed=1 -o out/prog",
    "g++ src/c.cc main.c -o out/prog",
    "gcc main.c -g -gsplit-dwarf -o out/prog",
    "gcc main.c -save-temps -o out/prog",
    "gcc -nostdlib -r main.c math.c -o out/both.o",
    "gcc bad.c -o out/prog",
    "gcc -c pch/use.c -Isys -MD -Wall -H",
    "gcc -c pch/use.c -Isys -MMD -MP -MF deps/p.d -g -Winvalid-pch",
    "gcc -S pch/use.c -Isys -O2",
    "gcc -c main.c -include pch/use.h -Isys -MD -MT x.o -o out/p.o",
    "gcc -fsyntax-only pch/use.c -Isys -Wall",
    "gcc -E pch/use.c -Isys -H -MD -o out/p.i",
    "gcc -MM pch/use.c -Isys",
    "gcc -c pch/flags.c -Isys -H -MD -Winvalid-pch",
    "gcc -c pch/flags.c -Isys -fexceptions -H -MD -Winvalid-pch",
    "gcc -c pch/use.c -Isys -DS=4 -Winvalid-pch",
    "gcc -c pch/use.c -Isys -save-temps -MD",
    "gcc -c pch/var.c -Isys -H -MD",
    "gcc -c pch/none.c -include pch/no.h.gch/../use.h -Isys -MD",
    "g++ -c main.c -include pch/made.hxx -Isys -Winvalid-pch -MD -H",
    "g++ main.c src/c.cc -include pch/made.hxx -Isys -o out/prog",
    "gcc -E pch/use.h -Isys -o out/h.i",
    "gcc -fsyntax-only inc/b.h pch/use.c -Isys",
    "gcc -M pch/use.h -Isys",
];

/// Each makes a precompiled header, whose bytes are others each time.
pub(super) const PRECOMPILING: &[&str] = &[
    "gcc inc/b.h",
    "gcc -c inc/b.h -o out/b.h.gch -MD -H",
    "gcc pch/new.h -Isys -MD -MP -Wall",
    "gcc -c pch/new.h -Isys -MMD",
    "gcc pch/new.h inc/b.h -Isys -MD",
    "g++ pch/new.h -Isys -O2 -g -Wp,-MD,deps/v.d",
    "gcc -x c-header main.c -o out/main.gch",
    "g++ -x c++-header -Winvalid-pch -include pch/made.hxx -Isys -MD -MT x -MF deps/m.d -o out/made.gch -c pch/made.hxx.cxx",
    "gcc warn.c -x c-header -Wall -fstack-usage",
    "gcc inc/b.h -DX=",
];

/// Each runs here.
pub(super) const LOCAL: &[(&str, &str)] = &[
    ("gcc -c missing.c", "`missing.c` is missing"),
    ("gcc -c main.c -o nowhere/m.o", "`nowhere/m.o` is missing"),
    ("gcc -c main.c -o /dev/null", "it writes to `/dev/null`, which is no regular file"),
    ("gcc --version", "it only asks for information"),
    ("gcc -dumpmachine", "it only asks for information"),
    ("gcc -print-prog-name=ld", "it only asks for information"),
    ("gcc -c main.c -fbogus", "unknown flag `-fbogus`"),
    ("gcc -E -", "it reads standard input"),
    ("gcc inc/b.h main.c", "`inc/b.h` is to be precompiled, and more is asked for"),
    ("gcc inc/b.h -save-temps", "`inc/b.h` is to be precompiled, and more is asked for"),
    ("gcc -S inc/b.h", "`inc/b.h` is to be precompiled, and more is asked for"),
    ("gcc inc/b.h -o nowhere/b.h.gch", "`nowhere/b.h.gch` is missing"),
    ("gcc -c pch/gone.c -Isys", "the preprocessor fails"),
    ("gcc -c pch/old.c -Isys", "`pch/old.h` is precompiled of other files"),
    ("gcc -fsyntax-only pch/use.h -Isys", "`pch/use.h` may be precompiled"),
    ("gcc -c main.c -imacros pch/use.h -Isys", "`./pch/use.h` is precompiled of other files"),
    ("gcc -c pch/two.c -Isys", "`pch/two.h` is precompiled several times"),
    ("gcc -c main.c -c -o main.c", "`main.c` is both source and output"),
    ("gcc -c main.c math.c -o out/x.o", "`out/x.o` is written twice"),
    ("gcc -c src/a.c -I- -Iinc", "the preprocessor fails"),
    ("gcc -c @nothing.c", "`@nothing.c` is missing"),
    ("gcc -c main.c -fno-stack-usage", "unknown flag `-fno-stack-usage`"),
    ("gcc -c src/a.c", "the preprocessor fails"),
    ("gcc -c main.c -march=native -g", "flag `-march=native` is run here"),
    ("gcc -wrapper env -c main.c", "flag `-wrapper` is run here"),
    ("gcc -c main.c -fprofile-use", "flag `-fprofile-use` is run here"),
];
