//! The house rules that a machine can check: who may import whom, where `unsafe` may stand, how long a file may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each folder (or top-level file) with what it may import besides itself, its own lower layers spelled out. A layer
/// that may import "and below" lists those below.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let l0 = ["error", "constants", "note"];
    let event_loop = with(&l0, &["sched", "reactor", "os::fd", "os::fork"]);
    // What stands above the loop may use the operating system's sockets, too.
    let below_services = with(&event_loop, &["os", "event_loop"]);
    let executor = with(&below_services, &["executor"]);
    let dns = with(&executor, &["dns"]);
    let transport = with(&below_services, &["protocol", "transport"]);
    let sock = with(&dns, &["sock"]);
    let net = with(&with(&sock, &transport), &["tls"]);
    let conveniences = [
        "stream",
        "subprocess",
        "stdio",
        "time",
        "group",
        "combine",
        "asyncgen",
        "runner",
        "policy",
        "inspector",
        "testing",
        "compat",
        "drive",
    ];
    let all = with(&with(&net, &["net", "process", "signal"]), &conveniences);
    let mut table = BTreeMap::from([
        ("error", vec![]),
        ("constants", vec![]),
        ("note", vec!["error"]),
        ("os", l0.to_vec()),
        // Of the operating system a number: that of the process.
        ("sched", with(&l0, &["os::fork"])),
        ("reactor", with(&l0, &["os"])),
        ("event_loop", event_loop),
        ("executor", below_services.clone()),
        ("protocol", below_services.clone()),
        ("signal", below_services),
        ("dns", executor.clone()),
        ("sock", dns),
        ("transport", transport.clone()),
        ("tls", transport.clone()),
        ("net", net),
        ("process", with(&with(&executor, &transport), &["signal"])),
        ("prelude", all.clone()),
    ]);
    for convenience in conveniences {
        table.insert(convenience, all.clone());
    }
    table
}

fn with<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    a.iter().chain(b).copied().collect()
}

/// The folders in which `unsafe` may stand, and the files.
const UNSAFE: [&str; 5] = ["os/", "sched/task.rs", "sched/ready.rs", "reactor/registration.rs", "compat/hyper.rs"];

/// The most lines of code of a file: blank lines, comments and its tests do not count.
const LONGEST_FILE: usize = 600;

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The layer of a file: its folder, or its own name at the top.
fn layer(file: &str) -> &str {
    file.split_once('/').map_or_else(|| file.trim_end_matches(".rs"), |(folder, _)| folder)
}

/// The code of a file without comments, and without its tests, which stand at its end.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]\nmod tests {" && *line != "mod tests {");
    lines.filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty())
}

/// The paths that come after each `crate::` of a line; of a braced list, each of them.
fn imports(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        // A visibility is no import.
        let is_visibility = line[..at].ends_with("pub(in ");
        if is_visibility || line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list.split([',', '}']).map(|path| path.trim().to_owned())),
            None => found.push(rest.to_owned()),
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

#[test]
fn a_file_imports_from_its_own_folder_and_from_lower_layers_only() {
    let allowed = allowed();
    let mut violations = Vec::new();
    for (file, text) in sources() {
        let own = layer(&file);
        if own == "lib" {
            continue;
        }
        let Some(lower) = allowed.get(own) else {
            violations.push(format!("{file}: the folder {own:?} is not in the table"));
            continue;
        };
        for line in code(&text) {
            for path in imports(line) {
                let fits =
                    |lower: &str| path == lower || path.strip_prefix(lower).is_some_and(|rest| rest.starts_with("::"));
                // The crate's root re-exports only macros and public names; the prelude is made of them.
                let is_own = fits(own) || own == "prelude";
                if !is_own && !lower.iter().any(|lower| fits(lower)) {
                    violations.push(format!("{file}: imports crate::{path}"));
                }
            }
        }
    }
    assert!(violations.is_empty(), "against the layers of the architecture:\n{}", violations.join("\n"));
}

#[test]
fn the_engines_do_not_know_each_other() {
    let violations: Vec<String> = sources()
        .iter()
        .filter(|(file, _)| matches!(layer(file), "sched" | "reactor"))
        .flat_map(|(file, text)| {
            let other = if layer(file) == "sched" { "crate::reactor" } else { "crate::sched" };
            code(text).filter(move |line| line.contains(other)).map(move |line| format!("{file}: {line}"))
        })
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn unsafe_stands_in_few_places_and_says_why() {
    let mut violations = Vec::new();
    for (file, text) in sources() {
        let permitted = UNSAFE.iter().any(|place| file.starts_with(place));
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let is_code = !line.trim_start().starts_with("//");
            let unsafe_code = ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|form| line.contains(form));
            if !is_code || !unsafe_code {
                continue;
            }
            if !permitted {
                violations.push(format!("{file}:{}: unsafe outside of its places", number + 1));
            }
            let before = lines[number.saturating_sub(16)..=number].join("\n");
            if !before.contains("SAFETY:") && !before.contains("# Safety") {
                violations.push(format!("{file}:{}: unsafe without a SAFETY comment", number + 1));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_operating_system_is_asked_for_in_its_own_folder() {
    let violations: Vec<String> = sources()
        .iter()
        // The reactor chooses among its back ends, and the public module shows the ones that are there.
        .filter(|(file, _)| !file.starts_with("os/") && file != "reactor/mod.rs" && file != "lib.rs")
        .flat_map(|(file, text)| {
            let foreign = |line: &&str| {
                ["target_os", "target_vendor", "rustix::", "libc::"].iter().any(|word| line.contains(word))
            };
            code(text).filter(foreign).map(move |line| format!("{file}: {line}"))
        })
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let violations: Vec<String> = sources()
        .iter()
        .map(|(file, text)| (file, code(text).count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(file, lines)| format!("{file}: {lines} lines of code"))
        .collect();
    assert!(violations.is_empty(), "split by noun:\n{}", violations.join("\n"));
}

#[test]
fn nothing_is_left_unfinished() {
    let violations: Vec<String> = sources()
        .iter()
        .flat_map(|(file, text)| {
            let marks = |line: &&str| {
                ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("].iter().any(|mark| line.contains(mark))
            };
            text.lines().filter(marks).map(move |line| format!("{file}: {line}"))
        })
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
