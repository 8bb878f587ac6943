//! What the scanner does in a quicker way than GCC, against GCC: conditions evaluated in place, directories listed.

use super::conditional;
use super::tree::{Tree, has_compiler};
use crate::model::FileView as _;

#[test]
fn conditions_through_macros_come_to_what_gcc_says() {
    if !has_compiler() {
        return;
    }
    let tree = Tree::new(&[("yes.h", ""), ("no.h", "")]);
    let prologue = "#define MAJ 12\n#define MINR 2\n#define MIN(a, b) (MAJ > (a) || MAJ == (a) && MINR >= (b))\n\
                    #define PRE(a, b) ((MAJ << 16) + MINR >= ((a) << 16) + (b))\n#define BARE(x) x || 0\n\
                    #define USE(F) USE_ ## F\n#define OUTER(F) USE(F)\n#define USE_X 1\n#define X2 X\n#define USE_X2 0\n\
                    #define NEST(x) (PRE(x, 1))\n#define TWO(x) (x + x)\n#define cold no_such\n#define CHAIN LINK\n\
                    #define LINK 7\n#define LOOP POOL\n#define POOL LOOP\n#define NAME PRE\n#define CALL(f) (f(12, 2))\n";
    let conditions = [
        "MIN(12, 2) && !MIN(12, 3) && MIN (3, 9)",
        "MIN(MAJ, MINR) && !MIN(99, MAJ)",
        "PRE(12, 2) && !PRE(13, 0) && PRE(NOPE, NOPE)",
        "BARE(0) && 0",
        "!BARE(1) == 0",
        "USE(X)",
        "USE(X2)",
        "OUTER(X2)",
        "USE(NOPE)",
        "NEST(11) && !NEST(12 + 1)",
        "TWO(MAJ) == 24",
        "__has_attribute(cold)",
        "__has_attribute(hot) && !__has_attribute(no_such_thing)",
        "CHAIN == 7",
        "LOOP",
        "NAME(12, 1)",
        "NAME",
        "CALL(PRE)",
        "MAJ - 2 - 3 == 7",
        "1 << 2 + 1 == 8",
        "2 - 3 > 0u",
    ];
    for (at, condition) in conditions.iter().enumerate() {
        let source = format!("a{at}.c");
        tree.write(&source, &format!("{prologue}{}", conditional(condition)));
        tree.check(&source, &[]);
    }
    let scoped = "__has_cpp_attribute(nodiscard) >= 201603 && __has_cpp_attribute(gnu::hot) && !__has_cpp_attribute(x::hot)";
    tree.write("b.cc", &conditional(scoped));
    tree.check("b.cc", &["-std=c++20"]);
}

#[test]
fn a_header_that_appears_in_a_listed_directory_is_seen() {
    if !has_compiler() {
        return;
    }
    let names: Vec<String> = (0..12).map(|n| format!("h{n}.h")).collect();
    let tree = Tree::new(&[("d1/keep.h", "")]);
    names.iter().for_each(|name| tree.write(&format!("d2/{name}"), ""));
    tree.write("a.c", &names.iter().map(|name| format!("#include <{name}>\n")).collect::<String>());
    // A directory that has just changed is not believed.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let settled =
        |dir: &str| tree.files.directory(&tree.path().join(dir)).is_some_and(|dir| dir.stamp.is_some());
    while !settled("d1") {
        assert!(std::time::Instant::now() < until, "the directory does not settle");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let flags = ["-I d1", "-I d2"];
    tree.check("a.c", &flags);
    tree.write("d1/h11.h", "");
    tree.check("a.c", &flags);
    tree.write("b.c", "#include <h11.h>\n#include <h3.h>\n");
    tree.check("b.c", &flags);
}
