//! What is built into a program with the crate may be used under licences that deny.toml allows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The list in deny.toml; `None` where there is no such file, as in the package.
fn allowed() -> Option<BTreeSet<String>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).ok()?;
    let (_, list) = text.split_once("\nallow = [").expect("a list of licences");
    let (list, _) = list.split_once(']').expect("its end");
    Some(list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect())
}

/// What `cargo metadata` says with all features. It loads the packages of other systems, which no build here has needed;
/// `None` where they cannot be had.
fn metadata() -> Option<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("failed to download") {
        eprintln!("skipped: packages of other systems are not there, and cannot be loaded: {error}");
        return None;
    }
    assert!(output.status.success(), "{error}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The dependencies of the library and theirs, on all platforms: name and version, and the licence. What is needed to build one
/// (`kind` is `build`) is not built into the program, and what is for tests (`dev`) neither.
fn dependencies(metadata: &Value) -> BTreeMap<String, Option<String>> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<&str, &Value> = nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let packages = metadata["packages"].as_array().unwrap();
    let packages: BTreeMap<&str, &Value> = packages.iter().map(|one| (one["id"].as_str().unwrap(), one)).collect();
    let mut found = BTreeSet::new();
    let mut unseen = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = unseen.pop() {
        if found.insert(id) {
            let is_built_in = |needed: &&Value| {
                let kinds = needed["dep_kinds"].as_array().unwrap();
                // `loom` is for models alone.
                kinds.iter().any(|kind| kind["kind"].is_null() && kind["target"].as_str() != Some("cfg(loom)"))
            };
            let needed = nodes[id]["deps"].as_array().unwrap().iter().filter(is_built_in);
            unseen.extend(needed.map(|needed| needed["pkg"].as_str().unwrap()));
        }
    }
    let name = |one: &Value| format!("{} {}", one["name"].as_str().unwrap(), one["version"].as_str().unwrap());
    found.iter().map(|id| (name(packages[id]), packages[id]["license"].as_str().map(str::to_owned))).collect()
}

/// Whether an expression of SPDX's can be met by licences of the list. `AND` binds tighter than `OR`, and the old `/` is an
/// `OR`.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any(&mut rest, allowed);
    assert!(rest.is_empty(), "{expression:?} is no expression from {rest:?} on");
    met
}

fn any(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = any(words, allowed);
            let [")", rest @ ..] = *words else { panic!("a parenthesis stays open before {words:?}") };
            *words = rest;
            met
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, rest @ ..] => {
            *words = rest;
            allowed.contains(*licence)
        }
        [] => panic!("an expression ends too soon"),
    }
}

#[test]
fn dependencies_have_allowed_licences() {
    let Some(allowed) = allowed() else {
        eprintln!("skipped: deny.toml is not in the package");
        return;
    };
    let Some(metadata) = metadata() else { return };
    let dependencies = dependencies(&metadata);
    let has = |name: &str| dependencies.keys().any(|one| one.starts_with(&format!("{name} ")));
    assert!(has("polling") && has("rustls") && has("ring") && has("linux-raw-sys"), "{:?}", dependencies.keys());
    assert!(!has("criterion") && !has("ratatui") && !has("loom"), "{:?}", dependencies.keys());
    let bad = dependencies.iter().filter(|(_, licence)| !licence.as_ref().is_some_and(|text| is_met(text, &allowed)));
    assert_eq!(bad.collect::<Vec<_>>(), [], "deny.toml allows none of these");
}

#[test]
fn expressions() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "Unlicense/MIT",
        "MIT / GPL-3.0",
        "ISC AND (GPL-3.0 OR MIT)",
        "GPL-3.0 AND ISC OR MIT",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for not_met in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "Apache-2.0", "MIT WITH LLVM-exception"] {
        assert!(!is_met(not_met, &allowed), "{not_met}");
    }
}
