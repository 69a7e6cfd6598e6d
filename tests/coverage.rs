//! `COVERAGE.md` agrees with the tests: what it lists in part has a test, what it lists as untested has none.

use std::collections::BTreeSet;
use std::path::Path;

/// The name of a row, such as `TK-08`, at the beginning of a text.
fn row(text: &str) -> Option<&str> {
    let name = text.get(..5)?;
    let (area, rest) = name.split_at(2);
    let number = rest.strip_prefix('-')?;
    let is_row = area.bytes().all(|b| b.is_ascii_uppercase()) && number.bytes().all(|b| b.is_ascii_digit());
    (is_row && !text[5..].starts_with(|c: char| c.is_alphanumeric())).then_some(name)
}

/// The rows that the doc comments of a file name; of a range, those in between as well.
fn named(source: &str, rows: &mut BTreeSet<String>) {
    for line in source.lines().filter_map(|line| line.trim_start().strip_prefix("/// ")) {
        for (place, _) in line.match_indices('-').filter(|(place, _)| *place >= 2) {
            let Some(first) = line.get(place - 2..).and_then(row) else { continue };
            rows.insert(first.to_owned());
            let last = line[place + 3..].strip_prefix(" to ").and_then(row).filter(|last| last[..2] == first[..2]);
            if let Some(last) = last {
                let number = |row: &str| row[3..].parse::<u32>().unwrap();
                rows.extend((number(first)..=number(last)).map(|n| format!("{}-{n:02}", &first[..2])));
            }
        }
    }
}

fn collect(folder: &Path, rows: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, rows);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            named(&std::fs::read_to_string(&path).unwrap(), rows);
        }
    }
}

/// A row is listed once. One that a test shows in part, or that not every Python can be asked about, is named by a test;
/// of any other listed row no test says that it shows it.
#[test]
fn the_list_of_what_is_untested_is_true() {
    let mut tested = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    collect(&root.join("tests"), &mut tested);
    collect(&root.join("src"), &mut tested);
    assert!(tested.len() > 250, "{}", tested.len());

    let mut listed = BTreeSet::new();
    for line in include_str!("COVERAGE.md").lines() {
        let Some((name, reason)) = line.strip_prefix("| ").and_then(|line| line.split_once(" | ")) else { continue };
        let Some(name) = row(name) else { continue };
        assert!(listed.insert(name), "{name} is listed twice");
        let in_part = reason.starts_with("in part") || reason.starts_with("compared with");
        match (in_part, tested.contains(name)) {
            (true, false) => panic!("no test shows a part of {name}"),
            (false, true) => panic!("{name} has a test: it is listed in part, or not at all"),
            _ => {}
        }
    }
    assert!(listed.len() > 40, "{listed:?}");
}
