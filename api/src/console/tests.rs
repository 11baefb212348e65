//! The files against the page's policy: what a browser would refuse, or what would read a
//! string from outside as markup, is not in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

/// Files that we wrote.
fn ours() -> impl Iterator<Item = &'static Asset> {
    ASSETS.iter().filter(|asset| !asset.name.starts_with("vendor/"))
}

fn files_below(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.insert(path);
        }
    }
}

/// What stands in quotes after a word of an import.
fn imports(source: &str) -> Vec<&str> {
    let after = |word: &'static str| source.split(word).skip(1).filter_map(|rest| rest.split('"').next());
    after(" from \"").chain(after("import(\"")).chain(after("import \"")).collect()
}

/// `pages/a.js` and `../b.js` are `b.js`.
fn resolve(from: &str, to: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[test]
fn every_file_of_the_folder_is_served() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets");
    let mut found = BTreeSet::new();
    files_below(&folder, &mut found);
    let listed: BTreeSet<PathBuf> = ASSETS.iter().map(|asset| folder.join(asset.name)).collect();
    assert_eq!(found, listed);
    assert_eq!(listed.len(), ASSETS.len(), "one is listed twice");
}

#[test]
fn what_a_module_imports_is_there() {
    let mut seen = 0;
    for asset in ours().filter(|asset| asset.name.ends_with(".js")) {
        for to in imports(asset.body) {
            assert!(to.starts_with("./") || to.starts_with("../"), "{} imports {to}", asset.name);
            let resolved = resolve(asset.name, to);
            assert!(ASSETS.iter().any(|other| other.name == resolved), "{}: {to}", asset.name);
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} imports were seen");
}

#[test]
fn each_module_is_reached_from_the_page() {
    let page = ASSETS.iter().find(|asset| asset.name == PAGE).expect("the page");
    let mut reached = BTreeSet::from(["index.html".to_owned()]);
    let named = page.body.split(['"']).filter_map(|text| text.strip_prefix("/assets/"));
    let mut next: Vec<String> = named.map(str::to_owned).collect();
    while let Some(name) = next.pop() {
        let asset = ASSETS.iter().find(|asset| asset.name == name).expect("a file that is served");
        if reached.insert(name.clone()) && !name.starts_with("vendor/") {
            next.extend(imports(asset.body).into_iter().map(|to| resolve(&name, to)));
        }
    }
    let all: BTreeSet<String> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
    assert_eq!(reached, all);
}

/// Preact sets what is no hole of `html` only by these, and a policy is no reason to try.
#[test]
fn no_string_becomes_markup_or_code() {
    const WORDS: [&str; 12] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "dangerouslySetInnerHTML",
        "document.write",
        "eval(",
        "new Function",
        "setTimeout(\"",
        "srcdoc",
        "javascript:",
        "createContextualFragment",
        "DOMParser",
    ];
    for asset in ours() {
        for word in WORDS {
            assert!(!asset.body.contains(word), "{} has {word}", asset.name);
        }
    }
}

#[test]
fn the_page_has_no_script_style_or_handler_within() {
    let page = ASSETS.iter().find(|asset| asset.name == PAGE).expect("the page").body;
    assert!(page.contains("<script type=\"module\" src=\"/assets/app.js\"></script>"));
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<style") && !page.contains(" style="));
    let handler = |word: &str| word.starts_with("on") && word.contains('=');
    assert!(!page.split_whitespace().any(handler));
}

/// Works without a network: no address of anybody else.
#[test]
fn no_file_names_another_host() {
    for asset in ours() {
        let foreign = asset.body.replace("http://www.w3.org/2000/svg", "");
        for scheme in ["http://", "https://", "url(", "@import", "\"//"] {
            assert!(!foreign.contains(scheme), "{} has {scheme}", asset.name);
        }
    }
}

#[test]
fn a_file_is_sent_once_and_then_only_confirmed() {
    let first = serve("app.js", &HeaderMap::new());
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let tag = first.headers()[header::ETAG].clone();
    for (asked, status) in [(tag.clone(), 304), (HeaderValue::from_static("\"other\""), 200)] {
        let answer = serve("app.js", &HeaderMap::from_iter([(header::IF_NONE_MATCH, asked)]));
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()[header::ETAG], tag);
    }
    assert_eq!(serve("no.js", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    assert_eq!(serve("../mod.rs", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
}

#[test]
fn every_file_has_the_policy_and_a_type() {
    for asset in ASSETS {
        let answer = serve(asset.name, &HeaderMap::new());
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("a text");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_ne!(answer.headers()[header::CONTENT_TYPE], "application/octet-stream", "{}", asset.name);
    }
}
