use super::*;

const LIMIT: usize = 256 * 1024;

fn run(text: &str, input: &str) -> Result<String, Problem> {
    Program::compile(text, &[] as &[&str])?.run(input, &[], LIMIT)
}

fn invalid(text: &str) -> String {
    match Program::compile(text, &["a", "b"]) {
        Err(Problem::Invalid(why)) => why,
        Err(other) => panic!("{text}: {other:?}"),
        Ok(_) => panic!("{text} was compiled"),
    }
}

#[test]
fn a_program_has_one_value() {
    assert_eq!(run(".a.b + 1", r#"{"a": {"b": 2}}"#), Ok("3".to_owned()));
    assert_eq!(run("empty", "1"), Ok("null".to_owned()));
    assert_eq!(run("1, 2", "1"), Err(Problem::Several));
    assert_eq!(run("repeat(1)", "1"), Err(Problem::Several), "only two are looked at");
    assert_eq!(run("[.[] | select(. > 1)]", "[1, 2, 3]"), Ok("[2,3]".to_owned()));
}

#[test]
fn variables_have_their_values() {
    let program = Program::compile("[$b, $a, .]", &["a", "b"]).expect("compiled");
    assert_eq!(program.run("3", &["1", "\"x\""], LIMIT), Ok("[\"x\",1,3]".to_owned()));
}

/// What comes in and is only passed on comes out as it was.
#[test]
fn values_are_kept() {
    for value in [
        "null",
        "true",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "0.1",
        "1.0",
        "1e-7",
        "\"\\u0000\\n\\\"é😀\"",
        "[]",
        "{}",
        "{\"z\":1,\"a\":[{\"y\":null}]}",
    ] {
        let result = run(".", value).expect(value);
        let (result, value): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&result).expect("JSON"), serde_json::from_str(value).expect("JSON"));
        assert_eq!(result, value);
    }
}

#[test]
fn numbers_are_those_of_jq() {
    for (text, expected) in [
        ("10 / 2", "5"),
        ("10 / 4", "2.5"),
        ("9223372036854775807 + 1", "9223372036854775808"),
        ("18446744073709551615 + 1", "1.8446744073709552e+19"),
        ("9007199254740993", "9007199254740993"),
        ("[1.5, 1] | add", "2.5"),
        ("0 / 5", "0"),
        ("7 % 2", "1"),
    ] {
        assert_eq!(run(text, "null"), Ok(expected.to_owned()), "{text}");
    }
    for text in
        ["nan", "infinite", "-infinite", "1e400", "[{\"a\": nan}]", "tobytes", "{(1|tostring|tobytes): 1}"]
    {
        match run(text, "\"x\"") {
            Err(Problem::Failed(why)) => assert!(!why.is_empty()),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_result_has_limits() {
    assert_eq!(run("\"x\" * 300000", "null"), Err(Problem::TooLarge(LIMIT)));
    assert_eq!(run("[range(200000)]", "null"), Err(Problem::TooLarge(LIMIT)));
    assert_eq!(run("reduce range(65) as $i (0; [.])", "null"), Err(Problem::TooDeep));
    assert!(run("reduce range(64) as $i (0; [.])", "null").is_ok());
    let program = Program::compile(".", &[] as &[&str]).expect("compiled");
    assert_eq!(program.run("\"abc\"", &[], 4), Err(Problem::TooLarge(4)));
    assert_eq!(program.run("\"abc\"", &[], 5), Ok("\"abc\"".to_owned()));
}

#[test]
fn an_error_is_told_and_shortened() {
    assert_eq!(run("error(\"no order\")", "1"), Err(Problem::Failed("no order".to_owned())));
    assert_eq!(run("error({a: 1})", "1"), Err(Problem::Failed("{\"a\":1}".to_owned())));
    assert_eq!(run("error(null)", "1"), Err(Problem::Failed("null".to_owned())));
    assert_eq!(run("error", "1"), Err(Problem::Failed("1".to_owned())));
    assert_eq!(run("1, error(\"second\")", "1"), Err(Problem::Failed("second".to_owned())));
    assert_eq!(run("try error(\"a\") catch .", "1"), Ok("\"a\"".to_owned()));
    match run("error(\"é\" * 1000)", "1") {
        Err(Problem::Failed(why)) => assert_eq!(why.chars().count(), 501),
        other => panic!("{other:?}"),
    }
    match run(".a", "[1]") {
        Err(Problem::Failed(why)) => assert!(why.contains("cannot index"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_program_is_told_with_its_place() {
    for (text, parts) in [
        ("", &["expected term", "at the end"][..]),
        (".a +", &["expected term", "at the end"]),
        (".a | )", &["character 6", "`)`"]),
        ("[1, 2", &["closing bracket", "at the end"]),
        ("\"abc", &["closing quote"]),
        ("1 é", &["expected token", "character 3", "`é`"]),
        ("\"é\" 2", &["expected the end", "character 5", "`2`"]),
        ("if . then 1", &["else or end", "at the end"]),
        ("$c", &["$c", "$a, $b"]),
        ("$ENV", &["$ENV", "$a, $b"]),
        ("nope(1; 2)", &["`nope/2`"]),
        ("import \"a\" as a; 1", &["modules"]),
        ("include \"a\"; 1", &["modules"]),
        ("break $x", &["label", "x"]),
        ("a::b", &["a"]),
    ] {
        let why = invalid(text);
        for part in parts {
            assert!(why.contains(part), "{text}: {part} is not in: {why}");
        }
    }
    assert!(invalid(&" ".repeat(TEXT_BYTES + 1)).contains("65536"));
    assert!(invalid(&"[".repeat(1_000)).contains("256"));
}

/// Neither the process nor its surroundings are there to be read.
#[test]
fn what_reaches_outside_does_not_exist() {
    for name in [
        "env",
        "$ENV",
        "env.PATH",
        "now",
        "localtime",
        "mktime | localtime",
        "strflocaltime(\"%Z\")",
        "input",
        "inputs",
        "first(inputs)",
        "input_filename",
        "input_line_number",
        "halt",
        "halt(1)",
        "halt_error",
        "halt_error(1)",
        "debug",
        "debug(1)",
        "stderr",
        "stderr_empty",
        "debug_empty",
        "repl",
        "getpath(env)",
        "get_search_list",
        "$__prog_args",
        "$__loc__",
        "ltrimstr(env)",
        "limit(1; input)",
        "input | env",
    ] {
        assert!(!invalid(name).is_empty(), "{name}");
    }
    for (name, why) in [
        ("env", "environment"),
        ("now", "clock"),
        ("input", "one input"),
        ("halt", "`error`"),
        ("debug", "prints"),
    ] {
        assert!(invalid(name).contains(why), "{name}: {}", invalid(name));
    }
}

/// Every function and definition that is offered can be called.
#[test]
fn what_is_there_works() {
    for (text, input, expected) in [
        ("@sh \"echo \\(.)\"", "\"it's\"", "\"echo 'it'\\\\''s'\""),
        ("ltrimstr(\"a\") | rtrimstr(\"c\")", "\"abc\"", "\"b\""),
        ("@base64 | @base64d", "\"é\"", "\"é\""),
        ("@uri", "\"a b\"", "\"a%20b\""),
        ("@json", "{\"a\":1}", "\"{\\\"a\\\":1}\""),
        ("test(\"^a.c$\")", "\"abc\"", "true"),
        ("[match(\"b+\"; \"g\").string]", "\"abba b\"", "[\"bb\",\"b\"]"),
        ("gsub(\"b\"; \"x\")", "\"abba\"", "\"axxa\""),
        ("capture(\"(?<y>[0-9]+)-(?<m>[0-9]+)\")", "\"2026-11\"", "{\"y\":\"2026\",\"m\":\"11\"}"),
        ("split(\",\") | map(tonumber) | add", "\"1,2,3\"", "6"),
        ("group_by(.a) | map(length)", "[{\"a\":1},{\"a\":2},{\"a\":1}]", "[2,1]"),
        ("to_entries | map(.key)", "{\"b\":1,\"a\":2}", "[\"b\",\"a\"]"),
        ("keys", "{\"b\":1,\"a\":2}", "[\"a\",\"b\"]"),
        ("with_entries(.value += 1)", "{\"a\":1}", "{\"a\":2}"),
        ("fromdate", "\"2026-11-21T12:00:00Z\"", "1795262400"),
        ("todate", "1795262400", "\"2026-11-21T12:00:00Z\""),
        ("gmtime | mktime", "1795262400", "1795262400"),
        ("strptime(\"%Y-%m-%d\") | mktime", "\"2026-11-21\"", "1795219200"),
        ("strftime(\"%A\")", "1795262400", "\"Saturday\""),
        (". as [$a, {b: $c}] | $a + $c", "[1,{\"b\":2}]", "3"),
        ("[paths]", "{\"a\":[1]}", "[[\"a\"],[\"a\",0]]"),
        ("reduce .[] as $x (0; . + $x)", "[1,2,3]", "6"),
        ("[foreach .[] as $x (0; . + $x)]", "[1,2,3]", "[1,3,6]"),
        ("[limit(3; range(infinite))]", "null", "[0,1,2]"),
        ("[label $out | range(10) | if . > 2 then ., break $out else . end]", "null", "[0,1,2,3]"),
        (".a.b = 1 | del(.c) | .d |= 5", "{\"a\":{},\"c\":1}", "{\"a\":{\"b\":1},\"d\":5}"),
        ("def fac: if . < 2 then 1 else . * (. - 1 | fac) end; fac", "20", "2432902008176640000"),
        ("fromjson.a", "\"{\\\"a\\\":1}\"", "1"),
        (".a // \"none\"", "{}", "\"none\""),
        (".a?", "1", "null"),
        ("[.[] | tostring]", "[1,\"1\",[1],null]", "[\"1\",\"1\",\"[1]\",\"null\"]"),
        ("walk(if type == \"number\" then . + 1 else . end)", "[1,{\"a\":2}]", "[2,{\"a\":3}]"),
        ("pow(2; 10) | sqrt | floor", "null", "32"),
        ("[splits(\", *\")]", "\"a, b,c\"", "[\"a\",\"b\",\"c\"]"),
        ("toarray", "1", "[1]"),
        ("[.[] | toarray]", "[1,[2]]", "[[1],[2]]"),
        ("trimstr(\"a\")", "\"aba\"", "\"b\""),
        ("[.[] | IN(1, 2)]", "[2,3]", "[true,false]"),
        ("IN(.[]; 3, 4)", "[2,3]", "true"),
        ("INDEX(.id)", "[{\"id\":1},{\"id\":\"b\"}]", "{\"1\":{\"id\":1},\"b\":{\"id\":\"b\"}}"),
        ("from_entries", "[{\"name\":\"x\",\"value\":1},{\"k\":2,\"v\":3}]", "{\"x\":1,\"2\":3}"),
        ("from_entries", "[{\"key\":false,\"value\":null}]", "{\"false\":null}"),
        ("to_entries | from_entries", "{\"a\":1}", "{\"a\":1}"),
        ("@csv", "[1,\"a \\\"b\\\"\",null,true]", "\"1,\\\"a \\\"\\\"b\\\"\\\"\\\",,true\""),
        ("@tsv", "[1,\"a\\tb\"]", "\"1\\ta\\\\tb\""),
        ("@tsv", "[\"\\\\\"]", "\"\\\\\\\\\""),
        ("[leaf_paths]", "{\"a\":[1]}", "[[\"a\",0]]"),
        ("65 | ascii", "null", "\"A\""),
        ("[.[] | isvalid(tonumber)]", "[\"1\",\"x\"]", "[true,false]"),
        ("any(. > 2), 0 | select(. == true)", "[1,3]", "true"),
    ] {
        assert_eq!(run(text, input), Ok(expected.to_owned()), "{text}");
    }
}
