//! The pages on docs.rs say at each item which feature it needs.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Whether a line begins an item that may be seen from outside: what is `pub` in a module that is not is caught where
/// lib.rs, or a public module, shows it.
fn is_public(item: &str) -> bool {
    item.starts_with("pub ")
}

/// The places of public items, of methods and implementations of others' traits, that hang on a feature and do not say so.
fn silent(name: &str, text: &str) -> Vec<String> {
    let shows = ["lib.rs", "compat/mod.rs", "policy.rs", "inspector/mod.rs", "testing/mod.rs", "prelude.rs"];
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut silent = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        // What needs a feature to be absent, or faults that only tests make, is not on the pages.
        if !line.starts_with("#[cfg(") || !line.contains("feature") || line.contains("not(") || line.contains("test,") {
            continue;
        }
        if line.contains("doctest") || line.contains("fuzzing") {
            continue;
        }
        let attributes = &lines[i + 1..];
        let end = attributes.iter().position(|line| !line.starts_with("#[") && !line.starts_with("//")).unwrap();
        let item = attributes[end];
        // A `pub use` or `pub mod` of a private module is shown by another one.
        let passes_on = (item.starts_with("pub use") || item.starts_with("pub mod")) && !shows.contains(&name);
        let of_others = item.starts_with("impl") && ["tokio::", "hyper::"].iter().any(|other| item.contains(other));
        let says = attributes[..end].iter().any(|line| line.starts_with("#[cfg_attr(docsrs, doc(cfg("));
        if ((is_public(item) && !passes_on) || of_others) && !says {
            silent.push(format!("src/{name}:{}: {item}", i + 1));
        }
    }
    silent
}

#[test]
fn features_stand_at_their_items() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut found = Vec::new();
    let mut said = 0;
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        said += text.matches("#[cfg_attr(docsrs, doc(cfg(").count();
        found.extend(silent(path.strip_prefix(&src).unwrap().to_str().unwrap(), &text));
    }
    assert!(said > 20, "{said}");
    assert!(found.is_empty(), "without `#[cfg_attr(docsrs, doc(cfg(feature = ..)))]`:\n{}", found.join("\n"));
}

#[test]
fn one_that_is_silent_is_found() {
    let silent = |text: &str| silent("net/mod.rs", text);
    assert_eq!(silent("#[cfg(feature = \"tls\")]\n#[must_use]\npub fn f() {}"), ["src/net/mod.rs:1: pub fn f() {}"]);
    let said = "#[cfg(feature = \"tls\")]\n#[cfg_attr(docsrs, doc(cfg(feature = \"tls\")))]\npub fn f() {}";
    assert!(silent(said).is_empty());
    assert!(silent("#[cfg(feature = \"tls\")]\npub(crate) fn f() {}").is_empty());
}
