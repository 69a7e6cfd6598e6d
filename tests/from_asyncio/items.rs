//! The items of the library, with the aliases by which its documentation finds them: what rustdoc knows, read off the
//! source. That is formatted, so indentation tells what belongs to what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[derive(Default)]
pub(crate) struct Items {
    /// Of each public item, such as `EventLoop::call_soon` or `sleep`, the aliases.
    aliases: BTreeMap<String, BTreeSet<String>>,
    /// What calls which macro.
    calls: Vec<(String, String)>,
}

/// What the lines of a file are within.
struct Container {
    kind: Kind,
    /// Of a macro with an exclamation mark.
    name: String,
    /// Of its first line and its last one.
    indent: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Struct,
    Enum,
    Trait,
    Impl,
    Macro,
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The type of `impl<..> Trait for Type<..>`, without the first word.
fn implemented(header: &str) -> &str {
    let mut depth = 0;
    let end = header.find(|c| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        depth == 0
    });
    let header = if header.starts_with('<') { &header[end.unwrap_or(0) + 1..] } else { header };
    let subject = header.split_once(" for ").map_or(header, |(_, subject)| subject).trim();
    identifier(subject.rsplit_once("crate::").map_or(subject, |(_, name)| name))
}

/// The keyword and the name of what a line declares.
fn declared(line: &str) -> Option<(&str, &str)> {
    let line = ["const ", "async ", "unsafe "].iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    let (keyword, rest) = line.split_once(' ')?;
    ["fn", "struct", "enum", "trait"].contains(&keyword).then(|| (keyword, identifier(rest)))
}

impl Items {
    pub(crate) fn of_the_library() -> Self {
        let mut items = Self::default();
        items.read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        items.expand();
        items
    }

    /// The aliases of an item; `None` where there is no such item.
    pub(crate) fn aliases(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.aliases.get(name)
    }

    fn read_folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.read_folder(&path);
            } else {
                self.read(&fs::read_to_string(&path).unwrap());
            }
        }
    }

    fn read(&mut self, source: &str) {
        let mut within: Vec<Container> = Vec::new();
        let mut aliases = BTreeSet::new();
        for line in source.lines() {
            let text = line.trim_start();
            let indent = line.len() - text.len();
            if let Some(list) = text.strip_prefix("#[doc(alias") {
                aliases.extend(list.split('"').skip(1).step_by(2).map(str::to_owned));
                continue;
            }
            if text.is_empty() || text.starts_with("//") || text.starts_with("#[") {
                continue;
            }
            if within.last().is_some_and(|container| container.indent == indent && text.starts_with('}')) {
                within.pop();
            }
            self.read_line(text, indent, &mut within, &mut aliases);
            aliases.clear();
        }
    }

    fn read_line(&mut self, text: &str, indent: usize, within: &mut Vec<Container>, aliases: &mut BTreeSet<String>) {
        let enter = |within: &mut Vec<Container>, kind, name: &str| {
            if text.ends_with('{') || !text.ends_with([';', '}']) {
                within.push(Container { kind, name: name.to_owned(), indent });
            }
        };
        if let Some(header) = text.strip_prefix("impl").filter(|header| header.starts_with([' ', '<'])) {
            return match &within[..] {
                // The macro is told of which type: what it has is the macro's.
                [Container { kind: Kind::Macro, name, .. }] if header.starts_with(" $") => {
                    let name = name.clone();
                    enter(within, Kind::Impl, &name);
                }
                _ => enter(within, Kind::Impl, implemented(header)),
            };
        }
        if let Some(header) = text.strip_prefix("macro_rules! ") {
            return enter(within, Kind::Macro, &format!("{}!", identifier(header)));
        }
        let public = text.strip_prefix("pub ");
        if let Some((keyword, name)) = public.and_then(declared).filter(|(keyword, _)| *keyword != "fn") {
            enter(
                within,
                match keyword {
                    "struct" => Kind::Struct,
                    "enum" => Kind::Enum,
                    _ => Kind::Trait,
                },
                name,
            );
            return self.add(name.to_owned(), aliases);
        }
        let Some(container) = within.last() else {
            match public.and_then(declared) {
                Some((_, name)) => self.add(name.to_owned(), aliases),
                // Of a macro that says of which type.
                None if text.starts_with("impl_") => {
                    if let Some((called, of)) = text.split_once("!(") {
                        self.calls.push((identifier(of).to_owned(), format!("{called}!")));
                    }
                }
                // A unit error: its name, its kind, its text.
                None if indent == 4 && text.contains(", \"") => self.add(identifier(text).to_owned(), aliases),
                None => {}
            }
            return;
        };
        let member = match (container.kind, public) {
            (Kind::Trait, _) => declared(text).map(|(_, name)| name),
            (Kind::Enum, _) if indent == container.indent + 4 => Some(identifier(text)),
            (Kind::Struct, Some(field)) => field.contains(':').then(|| identifier(field)),
            (Kind::Impl | Kind::Macro, Some(method)) => declared(method).map(|(_, name)| name),
            _ => None,
        };
        match member {
            Some(name) if !name.is_empty() => self.add(format!("{}::{name}", container.name), aliases),
            _ => {
                if let Some((called, _)) = text.split_once("!(").or_else(|| text.split_once("! {")) {
                    let called = called.rsplit(':').next().unwrap();
                    self.calls.push((container.name.clone(), format!("{called}!")));
                }
            }
        }
    }

    fn add(&mut self, name: String, aliases: &mut BTreeSet<String>) {
        self.aliases.entry(name).or_default().append(aliases);
    }

    /// Whoever calls a macro has what it declares; macros call macros.
    fn expand(&mut self) {
        loop {
            let before = self.aliases.len();
            for (caller, called) in &self.calls {
                let declared: Vec<_> = self.aliases.range(format!("{called}::")..format!("{called}:;")).collect();
                let copies: Vec<_> = declared
                    .into_iter()
                    .map(|(name, aliases)| (format!("{caller}{}", &name[called.len()..]), aliases.clone()))
                    .collect();
                for (name, mut aliases) in copies {
                    self.aliases.entry(name).or_default().append(&mut aliases);
                }
            }
            if self.aliases.len() == before {
                break;
            }
        }
    }
}
