//! Precompiled headers: made and taken in thunks, with the bytes, messages and depfiles of plain gcc.

use serde_json::Value;

use crate::twin::{Field, Twin};

const MAKEFILE: &str = ".RECIPEPREFIX = >\nOBJS = main.o util.o\nprog: $(OBJS)\n> $(CC) $^ -o $@\n\
                        $(OBJS): %.o: %.c all.h.gch\n> $(CC) -g -H -Winvalid-pch -include all.h -MMD -MP -MF $*.d -c $< -o $@\n\
                        all.h.gch: all.h\n> $(CC) -g -MD -c all.h -o $@\nclean:\n> rm -f prog *.o *.d *.gch\n\
                        -include all.h.d main.d util.d\n";

const SMALL: [(&str, &str); 5] = [
    ("Makefile", MAKEFILE),
    ("all.h", "#pragma once\n#include <stdio.h>\n#include \"part.h\"\nint util(int);\n"),
    ("part.h", "#pragma once\n#define PART 3\n"),
    ("main.c", "#include \"part.h\"\nint main(void) { printf(\"%d\\n\", util(PART)); return 0; }\n"),
    ("util.c", "int util(int x) { return x + PART; }\n"),
];

const CMAKE: [(&str, &str); 7] = [
    (
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.20)\nproject(p C CXX)\nadd_executable(app main.cc util.cc)\n\
         target_precompile_headers(app PRIVATE all.h <string>)\nadd_library(more STATIC more.c)\n\
         target_precompile_headers(more PRIVATE part.h)\ntarget_link_libraries(app more)\n",
    ),
    ("all.h", "#pragma once\n#include <vector>\n#include \"part.h\"\n#include \"more.h\"\n"),
    ("part.h", "#pragma once\n#define PART 3\n"),
    ("main.cc", "int util(std::vector<std::string>);\nint main() { return util({\"a\"}) - 1; }\n"),
    (
        "util.cc",
        "#include \"all.h\"\nint util(std::vector<std::string> v) { return v.size() + more() - PART; }\n",
    ),
    ("more.c", "int more(void) { return PART; }\n"),
    ("more.h", "extern \"C\" int more(void);\n"),
];

fn twin(files: &[(&str, &str)]) -> Twin {
    files.iter().fold(Twin::new(), |twin, (path, text)| twin.file(path, text))
}

fn field(files: &[(&str, &str)]) -> Field {
    let field = Field::new();
    let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    field.lay(&files.iter().map(owned).collect::<Vec<_>>());
    field
}

/// The labels of a build's events of one name.
struct Events(Vec<(String, String)>);

impl Events {
    fn of(field: &Field, build: &str) -> Self {
        let output = field.ggr(&format!("--json=events {build}")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let log = std::fs::read_to_string(field.tree().join("events")).unwrap();
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        Self(events.map(|event| (text(&event, "event"), text(&event, "label"))).collect())
    }

    fn named(&self, name: &str) -> Vec<&str> {
        let mut labels: Vec<&str> =
            self.0.iter().filter(|(event, _)| event == name).map(|(_, label)| label.as_str()).collect();
        labels.sort_unstable();
        labels
    }
}

/// Builds twice with a clean between: all in thunks, then all from the cache.
fn check_thunks(field: &Field, build: &str, clean: &str, expected: &[&str]) {
    let first = Events::of(field, build);
    assert_eq!(first.named("finished"), expected);
    assert!(first.named("ran_here").is_empty(), "{:?}", first.0);
    assert!(field.command("sh").args(["-c", clean]).status().unwrap().success());
    let second = Events::of(field, build);
    assert_eq!(second.named("cache_hit"), expected);
    assert!(second.named("started").is_empty() && second.named("ran_here").is_empty(), "{:?}", second.0);
}

#[test]
fn make_precompiles_a_header_and_takes_it() {
    twin(&SMALL)
        .build("make -j2")
        .plain("cat *.d; make -q && ./prog")
        .plain("sleep 0.02; echo '#define PART 4' > part.h")
        .build("make -j2")
        // gcc 12 writes addresses into it: two plain builds differ.
        .plain("cat *.d; make -q && ./prog; rm all.h.gch")
        .same();
}

#[test]
fn a_precompiled_header_is_made_and_taken_in_thunks() {
    let field = field(&SMALL);
    check_thunks(&field, "make -j2", "make clean", &["cc all.h.gch", "cc main.o", "cc prog", "cc util.o"]);
}

#[test]
fn a_precompiled_header_on_disk_is_taken_in_a_thunk() {
    let field = field(&SMALL);
    assert!(field.command("make").status().unwrap().success());
    let built = |clean: &str| {
        assert!(field.command("sh").args(["-c", clean]).status().unwrap().success());
        Events::of(&field, "make")
    };
    assert_eq!(built("rm main.o").named("finished"), ["cc main.o", "cc prog"]);
    let show = field.ggr("show main.o").output().unwrap();
    assert!(String::from_utf8_lossy(&show.stdout).contains("/tree/all.h.gch"), "{show:?}");
    // It is not made of what the header is now, and gcc takes it all the same.
    assert_eq!(built("echo >> part.h; touch all.h.gch").named("ran_here").len(), 2);
}

#[test]
fn gcc_decides_whether_a_precompiled_header_fits() {
    let calls = "#!/bin/sh\nmkdir one.h.gch two.h.gch\ngcc one.h -o one.h.gch/c\n\
                 gcc two.h -o two.h.gch/c && gcc -fexceptions two.h -o two.h.gch/x\n\
                 gcc -fexceptions flags.h && gcc stale.h gone.h inner.h\n\
                 echo > stale.h; rm gone.h deep.h\n\
                 for name in one flags stale gone inner; do gcc -H -Winvalid-pch -MD -c $name.c; echo $name $?; done\n\
                 gcc -H -fexceptions -Winvalid-pch -MD -c flags.c -o fits.o\n\
                 gcc -DP=5 -Winvalid-pch -MD -c one.c -o macro.o\ngcc -c two.c && cat *.d && rm -r *.gch\n";
    let header = "#define P 1\n#define WITH 1\n";
    let source =
        |name: &str| format!("#include \"{name}.h\"\n#ifdef WITH\n#include \"with.h\"\n#endif\nint x = P;\n");
    let names = ["one", "two", "flags", "stale", "gone", "inner"];
    let twin = names.iter().fold(Twin::new().file("calls", calls), |twin, name| {
        twin.file(&format!("{name}.h"), header).file(&format!("{name}.c"), &source(name))
    });
    twin.file("with.h", "int with;\n")
        .file("deep.h", header)
        .file("inner.h", "#include \"deep.h\"\n")
        .build("./calls")
        .same();
}

#[test]
fn a_message_shows_the_line_of_whatever_has_the_headers_name() {
    Twin::new()
        .file("inc/all.h", "#include \"deep.h\"\nstatic int all(void);\n")
        .file("inc/deep.h", "static int deep(void);\n")
        .file("sub/inc/all.h", "not\nthis\n")
        .file("sub/a.c", "int a;\n")
        .file("calls", "#!/bin/sh\ngcc inc/all.h && cd sub && gcc -Wall -include ../inc/all.h -c a.c; gcc -Wall -include ../inc/all.h -c a.c\n")
        .build("./calls")
        .plain("rm inc/all.h.gch")
        .same();
}

#[test]
fn a_cmake_build_with_precompiled_headers() {
    twin(&CMAKE)
        .build("cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Debug")
        .build("cmake --build build -j1")
        .plain("build/app; ninja -C build -n; find build -name '*.o' -exec cp {} . \\; ; cp build/app p; rm -r build")
        .same();
    let field = field(&CMAKE);
    let configured = field.command("cmake").args(["-S", ".", "-B", "build", "-G", "Ninja"]).output().unwrap();
    assert!(configured.status.success(), "{configured:?}");
    let thunks = [
        "ar libmore.a",
        "c++ app",
        "c++ cmake_pch.hxx.gch",
        "c++ main.cc.o",
        "c++ util.cc.o",
        "cc cmake_pch.h.gch",
        "cc more.c.o",
        "ranlib libmore.a",
    ];
    check_thunks(&field, "ninja -C build", "ninja -C build -t clean", &thunks);
}
