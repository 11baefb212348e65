use serde_json::json;

use super::*;

fn refused(text: &str) -> (usize, usize, String, String) {
    let error = read(text).expect_err(text);
    (error.line, error.column, error.pointer, error.message)
}

#[test]
fn yaml_and_json_are_the_same_tree() {
    let yaml = "# about\na: 1\n\"b\":\n  - x: [true, null, ~]\n    y: |\n      two\n      lines\n  - 'q'\n";
    let value = json!({"a": 1, "b": [{"x": [true, null, null], "y": "two\nlines\n"}, "q"]});
    assert_eq!(read(yaml).expect("yaml").to_value(), value);
    assert_eq!(read(&value.to_string()).expect("json").to_value(), value);
    let pretty = serde_json::to_string_pretty(&value).expect("written").replace("  ", "\t");
    assert_eq!(read(&pretty).expect("tabs are JSON's white space").to_value(), value);
    assert_eq!(read(r#"{"a": "\ud83d\ude00"}"#).expect("a pair").to_value(), json!({"a": "😀"}));
    assert_eq!(read("{a: 1, b: two}").expect("a flow mapping").to_value(), json!({"a": 1, "b": "two"}));
}

#[test]
fn every_node_knows_its_place() {
    for text in ["ä: 1\nb:\n  - é: x\n", "{\"ä\": 1,\n\"b\":\n [{ \"é\" : \"x\"}]}"] {
        let node = read(text).expect(text);
        let Kind::Map(members) = &node.kind else { panic!("{text}") };
        assert_eq!(
            (members[1].key.as_str(), members[1].place),
            ("b", Place { line: 2, column: 1 }),
            "{text}"
        );
        let Kind::List(items) = &members[1].value.kind else { panic!("{text}") };
        let Kind::Map(inner) = &items[0].kind else { panic!("{text}") };
        assert_eq!(inner[0].place, Place { line: 3, column: 5 }, "{text}");
    }
    let escaped = read("{\"a\\\\\": 1, \"b\\\"c\": 2}").expect("escapes");
    let Kind::Map(members) = &escaped.kind else { panic!("no object") };
    assert_eq!(members[1].place.column, 12);
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for (text, line, column, pointer, message) in [
        ("a: 1\na: 2\n", 2, 1, "/a", "the key `a` stands twice"),
        ("{\"a\": 1,\n \"a\": 2}", 2, 2, "/a", "the key `a` stands twice"),
        ("a: &x 1\nb: *x\n", 1, 4, "/a", "an anchor"),
        ("a: !!str 1\n", 1, 4, "/a", "a tag"),
        ("a: 1\n---\nb: 2\n", 2, 1, "", "a second document"),
        ("404: x\n", 1, 1, "", "the key `404` is not text: write \"404\" in quotes"),
        ("x:\n  true: 1\n", 2, 3, "/x", "the key `true` is not text"),
        ("[a]: 1\n", 1, 1, "", "a key is text"),
        ("a: .nan\n", 1, 4, "/a", "a number that JSON does not have"),
        ("a:\n  b: 123456789012345678901\n", 2, 6, "/a/b", "a number beyond"),
        ("{\"a\": [1e999]}", 1, 8, "/a/0", "a number beyond"),
        ("a: \"\\0\"\n", 1, 4, "/a", "\\u0000"),
        ("a: [1, 2\n", 2, 1, "/a/2", "this is no YAML"),
        ("a: 1 # \0\n", 1, 1, "", "\\u0000"),
        ("", 1, 1, "", "the document is empty"),
        ("# nothing\n", 2, 1, "", "the document is empty"),
    ] {
        let found = refused(text);
        assert_eq!((found.0, found.1, found.2.as_str()), (line, column, pointer), "{text}: {}", found.3);
        assert!(found.3.contains(message), "{text}: {}", found.3);
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = |open: &str, close: &str, depth: usize| {
        format!("{{\"a\": {}{}}}", open.repeat(depth), close.repeat(depth))
    };
    assert!(read(&deep("[", "]", 63)).is_ok());
    assert!(refused(&deep("[", "]", 64)).3.contains("nesting deeper than 64"));
    assert!(
        refused(&format!("a: {}1{}", "[".repeat(64), "]".repeat(64))).3.contains("nesting deeper than 64")
    );
    assert!(read(&format!("a: {}", "[".repeat(100_000))).is_err());
    assert!(read(&deep("[", "]", 100_000)).is_err());
    assert!(refused(&format!("a: {}", "x".repeat(MAX_DOCUMENT))).3.contains("it may have 262144"));
}

#[test]
fn an_error_can_be_told_of_what_stands_at_a_pointer() {
    let text = "a:\n  - x/y: {b~c: 1}\n";
    let found = error_at(text, "/a/0/x~1y/b~0c", "no such thing");
    assert_eq!((found.line, found.column, found.message.as_str()), (2, 16, "no such thing"));
    assert_eq!(error_at(text, "/a/7", "gone").line, 1);
    assert_eq!(to_value(text).expect("a value"), json!({"a": [{"x/y": {"b~c": 1}}]}));
}
