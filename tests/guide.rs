//! The guide holds together: its chapters are in the book and are compiled, its links lead somewhere, its Python runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// What a link to a page of the documentation begins with.
const DOCUMENTATION: &str = "https://docs.rs/roundelay/latest/";

/// The same of a link to a file of the crate.
const SOURCE: &str = "https://docs.rs/crate/roundelay/latest/source/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of the chapters' files.
fn chapters() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("docs/guide")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".md") && name != "SUMMARY.md").collect()
}

fn guide(chapter: &str) -> String {
    format!("docs/guide/{chapter}")
}

/// A piece of code between fences.
struct Code<'a> {
    /// What stands behind the first fence.
    language: &'a str,
    lines: Vec<&'a str>,
}

/// The code of a text, and the text without it.
fn split(text: &str) -> (Vec<Code<'_>>, String) {
    let (mut codes, mut prose) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line.strip_prefix("```") {
            Some(language) => {
                let lines = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
                codes.push(Code { language, lines });
            }
            None => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    (codes, prose)
}

/// The anchors of a text's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let (_, prose) = split(text);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .collect::<String>();
            kept.replace(' ', "-")
        })
        .collect()
}

/// Where the links of a text lead to, with what follows each label: `[label](target)` and `[label]: target`.
fn targets(text: &str) -> Vec<String> {
    let (_, prose) = split(text);
    let mut targets = Vec::new();
    for (at, _) in prose.match_indices("](") {
        let target: String = prose[at + 2..].chars().take_while(|c| *c != ')' && !c.is_whitespace()).collect();
        targets.push(target);
    }
    targets.extend(definitions(&prose).into_values());
    targets
}

/// `[label]: target`, by label.
fn definitions(prose: &str) -> BTreeMap<String, String> {
    let lines = prose.lines().filter(|line| line.starts_with('['));
    let pairs = lines.filter_map(|line| line[1..].split_once("]: "));
    pairs.map(|(label, target)| (label.to_owned(), target.trim().to_owned())).collect()
}

/// A path without `..`; `None` if it leads out of the crate.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => normal.pop().then_some(())?,
            part => normal.push(part),
        }
    }
    Some(normal)
}

/// Why a link of a file leads nowhere.
fn broken(file: &str, target: &str, documentation: Option<&Path>) -> Option<String> {
    if let Some(path) = target.strip_prefix(SOURCE) {
        return (!root().join(path).is_file()).then(|| format!("{file}: the crate has no {path}"));
    }
    if let Some(page) = target.strip_prefix(DOCUMENTATION) {
        let (page, anchor) = page.split_once('#').unwrap_or((page, ""));
        let page = if page.ends_with('/') { format!("{page}index.html") } else { page.to_owned() };
        let Ok(text) = fs::read_to_string(documentation?.join(&page)) else {
            return Some(format!("{file}: the documentation has no {page}"));
        };
        let found = anchor.is_empty() || text.contains(&format!("id=\"{anchor}\""));
        return (!found).then(|| format!("{file}: {page} has no #{anchor}"));
    }
    if target.contains("://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(file).parent().unwrap();
    let found = if path.is_empty() { Some(PathBuf::from(file)) } else { normal(&folder.join(path)) };
    let Some(found) = found.filter(|found| root().join(found).exists()) else {
        return Some(format!("{file}: there is no {target}"));
    };
    // The book is built of its own folder.
    if file.starts_with("docs/guide/") && !found.starts_with("docs/guide") {
        return Some(format!("{file}: {target} leads out of the book: link to {SOURCE}.."));
    }
    if anchor.is_empty() || found.extension().is_none_or(|extension| extension != "md") {
        return None;
    }
    let text = fs::read_to_string(root().join(&found)).unwrap();
    (!anchors(&text).contains(anchor)).then(|| format!("{file}: {} has no #{anchor}", found.display()))
}

fn expect_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_chapter_is_in_the_book_and_is_compiled() {
    let listed: Vec<String> = targets(&read("docs/guide/SUMMARY.md"));
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), chapters());
    assert_eq!(listed.len(), chapters().len(), "a chapter is listed twice");

    let source = read("src/lib.rs");
    let compiled = source.split("include_str!(\"../docs/guide/").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert_eq!(compiled.map(str::to_owned).collect::<BTreeSet<_>>(), chapters());
}

/// With `ROUNDELAY_DOC`, the folder that rustdoc has written, links to the documentation are followed, too.
#[test]
fn links_lead_somewhere() {
    let documentation = std::env::var_os("ROUNDELAY_DOC").map(|folder| root().join(folder));
    let guide = chapters().into_iter().map(|chapter| guide(&chapter));
    let others = ["README.md", "docs/guide/SUMMARY.md", "docs/performance.md", "tests/oracle/differences.md"];
    let mut faults = Vec::new();
    for file in guide.chain(others.map(str::to_owned)) {
        let text = read(&file);
        faults.extend(targets(&text).iter().filter_map(|target| broken(&file, target, documentation.as_deref())));
    }
    expect_none(faults);
}

/// A reference without a definition is shown with its brackets.
#[test]
fn references_are_defined_and_definitions_are_used() {
    let mut faults = Vec::new();
    for chapter in chapters() {
        let text = read(&guide(&chapter));
        let (_, prose) = split(&text);
        let defined = definitions(&prose);
        let line = prose.replace('\n', " ");
        for (at, _) in line.match_indices("[`") {
            let Some((label, behind)) = line[at + 1..].split_once(']') else { continue };
            let is_reference = label.matches('`').count() == 2 && !behind.starts_with('(');
            if is_reference && !defined.contains_key(label) {
                faults.push(format!("{chapter}: [{label}] is not defined"));
            }
        }
        // Once where it is defined, and once more.
        let unused = defined.keys().filter(|label| line.matches(&format!("[{label}]")).count() < 2);
        faults.extend(unused.map(|label| format!("{chapter}: [{label}] is not used")));
    }
    expect_none(faults);
}

/// The book is built of its own folder, and the README shows the picture, too.
#[test]
fn the_picture_in_the_book_is_that_of_the_readme() {
    let [ours, theirs] = ["docs/guide/img/timeline.svg", "docs/img/timeline.svg"].map(read);
    assert!(ours == theirs, "docs/img/timeline.svg was drawn anew: copy it");
}

/// What is compiled is what is read: GitHub shows the lines that rustdoc and mdBook hide.
#[test]
fn programs_hide_nothing_and_are_all_compiled() {
    let mut faults = Vec::new();
    for chapter in chapters() {
        let text = read(&guide(&chapter));
        for code in split(&text).0 {
            let begin = code.lines.first().copied().unwrap_or_default();
            let is_rust = code.language.is_empty() || code.language.starts_with("rust");
            if code.language.is_empty() {
                faults.push(format!("{chapter}: what is in no language, mdBook does not colour: {begin}"));
            }
            if is_rust && code.lines.iter().any(|line| *line == "#" || line.starts_with("# ")) {
                faults.push(format!("{chapter}: a hidden line in the code that begins with: {begin}"));
            }
            if code.language.contains("ignore") {
                faults.push(format!("{chapter}: nobody compiles the code that begins with: {begin}"));
            }
        }
    }
    expect_none(faults);
}

/// asyncio's own examples stand beside ours: they do what is said of them.
#[test]
fn the_python_of_the_four_examples_runs() {
    let text = read("docs/guide/callbacks-futures-tasks.md");
    let programs = split(&text).0.into_iter().filter(|code| code.language == "python");
    let programs: Vec<String> = programs.map(|code| code.lines.join("\n")).collect();
    assert_eq!(programs.len(), 4);
    for program in programs {
        let run = "import signal, sys; signal.alarm(30); exec(sys.stdin.read())";
        let mut python = Command::new("python3");
        let python = python.args(["-W", "error", "-c", run]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match python.spawn() {
            Ok(child) => child,
            Err(error) => return eprintln!("skipped: python3 is not installed ({error})"),
        };
        child.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{program}\n{output:?}");
    }
}
