use super::*;
use crate::testing::{path, sample, thunks};
use proptest::prelude::*;
use std::error::Error;

fn whole_message(error: &JsonError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The sample's JSON with one text replaced by another gives an error that says these words.
#[track_caller]
fn check(from: &str, to: &str, words: &[&str]) {
    let good = sample().to_json();
    let bad = good.replacen(from, to, 1);
    assert_ne!(good, bad, "`{from}` is not in the sample");
    let message = whole_message(&Thunk::from_json(&bad).unwrap_err());
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

proptest! {
    #[test]
    fn a_thunk_comes_back_from_its_json(mut thunk in thunks()) {
        let program = Entry { object: Object::Blob(crate::BlobId::of(b"p")), mode: Mode::Executable };
        thunk.inputs.insert(thunk.command.program.clone(), program);
        prop_assert_eq!(Thunk::from_json(&thunk.to_json()).unwrap(), thunk);
    }

    #[test]
    fn random_text_does_no_harm(text in "[{}\\[\\]\":,a-zV=/#]{0,60}") {
        let _ = Thunk::from_json(&text);
    }
}

#[test]
fn the_form_is_the_documented_one() {
    let json: serde_json::Value = serde_json::from_str(&sample().to_json()).unwrap();
    assert_eq!(json["function"]["dir"], "/w");
    assert_eq!(json["function"]["args"][0], "gcc");
    assert_eq!(json["function"]["envs"], serde_json::json!(["EMPTY=", "LANG=C"]));
    let program = crate::BlobId::of(b"gcc").to_string();
    assert_eq!(json["function"]["hash"], program);
    let objects = json["objects"].as_array().unwrap();
    assert!(objects.contains(&format!("{program}=/usr/bin/gcc").into()));
    assert!(objects.iter().any(|object| object.as_str().unwrap().ends_with("#/w/a b.h=/w/a b.h")));
    assert_eq!(json["modes"], serde_json::json!({"/lib": "link", "/tmp": "dir", "/usr/bin/gcc": "x"}));
    assert_eq!(json["outputs"], serde_json::json!(["/w/a.o", {"name": "depfile", "path": "/w/a.d"}]));
    assert!(json.get("harvest").is_none(), "the usual one is left out");
}

#[test]
fn the_program_may_be_left_out_when_only_one_fits() {
    let json = sample().to_json();
    let without = json.replacen("    \"program\": \"/usr/bin/gcc\",\n", "", 1);
    assert_ne!(json, without);
    assert_eq!(Thunk::from_json(&without).unwrap(), sample());

    let mut two = sample();
    let twin = two.inputs[&path("/usr/bin/gcc")].clone();
    two.inputs.insert(path("/usr/bin/cc"), twin);
    let without = two.to_json().replacen("    \"program\": \"/usr/bin/gcc\",\n", "", 1);
    assert!(matches!(Thunk::from_json(&without), Err(JsonError::WhichProgram { found: 2 })));
}

#[test]
fn a_mistake_in_syntax_or_in_a_value_is_named_with_its_line() {
    check("\"dir\": \"/w\"", "\"dir\": \"/w", &["line 18"]);
    check("\"args\"", "\"arg\"", &["unknown field `arg`", "expected one of", "line 5"]);
    check("\"hash\": \"V", "\"hash\": \"W", &["`W", "is not an id", "line 3"]);
    check(
        "\"dir\": \"/w\"",
        "\"dir\": \"w\"",
        &["`w` cannot be a path inside a thunk: it is not absolute", "line 17"],
    );
    check("\"LANG=C\"", "\"LANG\"", &["`envs` holds `LANG`", "line 15"]);
    check("\"LANG=C\"", "7", &["invalid type: integer `7`", "line 15"]);
    check("=/w/a.c\"", "=w/a.c\"", &["`objects` holds", "line 2"]);
    check("=/w/a.c\"", "=/w/../a.c\"", &["`objects` holds", "`.` or `..`", "line 2"]);
    check("\"/tmp\": \"dir\"", "\"/tmp\": \"folder\"", &["unknown variant `folder`", "`dir`", "line"]);
    check("\"name\": \"depfile\",", "", &["missing field `name`", "line"]);
    check("\"/w/a.o\",\n", "\"a.o\",\n", &["`outputs`", "not absolute", "line"]);
}

#[test]
fn parts_that_do_not_fit_together_are_named_with_their_key() {
    check("\"EMPTY=\"", "\"LANG=D\"", &["`function.envs` holds `LANG` twice"]);
    check(
        "\"program\": \"/usr/bin/gcc\"",
        "\"program\": \"/usr/bin/cc\"",
        &["`function.program`", "/usr/bin/cc"],
    );
    check("\"program\": \"/usr/bin/gcc\"", "\"program\": \"/w/a.c\"", &["`function.hash` is", "/w/a.c"]);
    check("\"/tmp\": \"dir\"", "\"/tmpp\": \"dir\"", &["`modes` holds `/tmpp`"]);
    check("=/w/a.c\"", "=/w/a b.h\"", &["`objects` holds `/w/a b.h` twice"]);
    check("\"depfile\"", "\"/w/a.o\"", &["`outputs` holds `/w/a.o` twice"]);
}

#[test]
fn a_missing_key_is_named() {
    for key in ["function", "objects", "outputs"] {
        let mut json: serde_json::Value = serde_json::from_str(&sample().to_json()).unwrap();
        json.as_object_mut().unwrap().remove(key);
        let message = whole_message(&Thunk::from_json(&json.to_string()).unwrap_err());
        assert!(message.contains(&format!("missing field `{key}`")), "{message}");
    }
}
