//! The tables of the guide's chapter on asyncio: nothing of asyncio's is left out, whatever is named exists, and what has
//! another name here is found by asyncio's in the documentation.
//!
//! `ROUNDELAY_ORACLE_PYTHON` names the interpreter that is asked for asyncio's names (`python3` otherwise, and newer ones
//! where there are any).

mod items;
mod table;

use std::collections::BTreeSet;
use std::process::Command;

use items::Items;
use table::{bare, rows};

const CHAPTER: &str = include_str!("../../docs/guide/from-asyncio.md");

/// The public names of an interpreter's asyncio, with its version; `None` where it is not installed or too old.
fn names(interpreter: &str) -> Option<(String, Vec<String>)> {
    let output = Command::new(interpreter).args(["-c", include_str!("names.py")]).output().ok()?;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let errors = text(output.stderr);
    let version = errors.trim().strip_prefix("version ")?.to_owned();
    Some((version, text(output.stdout).lines().map(str::to_owned).collect()))
}

#[test]
fn every_name_of_asyncio_is_in_the_table() {
    let named: BTreeSet<_> = rows(CHAPTER).into_iter().flat_map(|row| row.asyncio).collect();
    let chosen = std::env::var("ROUNDELAY_ORACLE_PYTHON").ok();
    let interpreters = match &chosen {
        Some(interpreter) => vec![interpreter.as_str()],
        None => vec!["python3", "python3.12", "python3.13", "python3.14"],
    };
    let mut asked = 0;
    for interpreter in interpreters {
        let Some((version, names)) = names(interpreter) else { continue };
        asked += 1;
        assert!(names.len() > 350, "{interpreter} {version}: {names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !named.contains(*name)).collect();
        assert!(missing.is_empty(), "not in the chapter, though in asyncio of Python {version}: {missing:?}");
    }
    if asked == 0 {
        assert!(chosen.is_none(), "{chosen:?} cannot be asked");
        eprintln!("skipped: there is no python3 of 3.11 or newer");
    }
}

#[test]
fn no_name_is_there_twice() {
    let mut seen = BTreeSet::new();
    for name in rows(CHAPTER).into_iter().flat_map(|row| row.asyncio) {
        assert!(seen.insert(name.clone()), "{name} has two rows");
    }
}

/// The items of other crates that the tables name: each is used here.
fn elsewhere() -> Vec<&'static str> {
    use async_channel::{Receiver, Sender};
    use event_listener::Event;

    fn exists<T>(_: T) {}
    type Channel = (Sender<()>, Receiver<()>);
    exists(|event: &Event| (event.listen(), event.notify(1)));
    exists(|mutex: &async_lock::Mutex<()>| (drop(mutex.lock()), mutex.try_lock().is_some()));
    exists(|semaphore: &async_lock::Semaphore| {
        drop((semaphore.acquire(), semaphore.try_acquire()));
        semaphore.add_permits(1);
        async_lock::Semaphore::new(1)
    });
    exists(|barrier: &async_lock::Barrier| drop(barrier.wait()));
    exists(|(sender, receiver): &Channel| (drop(sender.send(())), drop(receiver.recv())));
    exists(|(sender, receiver): &Channel| (sender.try_send(()).is_ok(), receiver.try_recv().is_ok()));
    exists(|(sender, receiver): &Channel| (sender.is_full(), receiver.is_empty(), sender.close()));
    exists(|(_, receiver): &Channel| (receiver.len(), receiver.capacity()));
    exists([async_channel::bounded::<()>, |_| async_channel::unbounded()]);
    exists::<Option<(async_channel::RecvError, async_channel::TryRecvError)>>(None);
    exists::<Option<(async_channel::SendError<()>, async_channel::TrySendError<()>)>>(None);
    vec![
        "async_channel::Receiver::capacity",
        "async_channel::Receiver::is_empty",
        "async_channel::Receiver::len",
        "async_channel::Receiver::recv",
        "async_channel::Receiver::try_recv",
        "async_channel::RecvError",
        "async_channel::SendError",
        "async_channel::Sender::close",
        "async_channel::Sender::is_full",
        "async_channel::Sender::send",
        "async_channel::Sender::try_send",
        "async_channel::TryRecvError",
        "async_channel::TrySendError",
        "async_channel::bounded",
        "async_channel::unbounded",
        "async_lock::Barrier",
        "async_lock::Barrier::wait",
        "async_lock::Mutex",
        "async_lock::Mutex::lock",
        "async_lock::Mutex::try_lock",
        "async_lock::Semaphore",
        "async_lock::Semaphore::acquire",
        "async_lock::Semaphore::add_permits",
        "async_lock::Semaphore::new",
        "async_lock::Semaphore::try_acquire",
        "event_listener::Event",
        "event_listener::Event::listen",
        "event_listener::Event::notify",
    ]
}

/// The name of an item of roundelay's as the source has it; `None` for one of another crate, and for what is no item.
fn ours(name: &str) -> Option<&str> {
    let is_path = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':');
    let is_variable = !name.contains(|c: char| c.is_lowercase());
    let foreign = [
        "async_channel",
        "async_fs",
        "async_lock",
        "event_listener",
        "futures",
        "futures_lite",
        "io",
        "smol",
        "std",
        "tokio",
    ];
    let krate = name.split(':').next().unwrap();
    if !is_path || is_variable || foreign.contains(&krate) {
        return None;
    }
    let modules = ["policy::", "selector::", "testing::"];
    Some(modules.iter().find_map(|module| name.strip_prefix(module)).unwrap_or(name))
}

#[test]
fn whatever_the_tables_name_exists() {
    let items = Items::of_the_library();
    let surface = include_str!("../../src/lib.rs");
    let exported: BTreeSet<_> = surface.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let elsewhere = elsewhere();
    for row in rows(CHAPTER) {
        assert_eq!(row.rust.is_empty(), row.is_nothing, "neither names nor `-`: {:?}", row.asyncio);
        for name in &row.rust {
            let Some(item) = ours(name) else {
                let known =
                    elsewhere.contains(&name.as_str()) || name.starts_with("std::") || *name == "ROUNDELAY_DEBUG";
                assert!(known, "{name} is of no crate that is known here");
                continue;
            };
            assert!(items.aliases(item).is_some(), "there is no {name}");
            let outermost = item.split(':').next().unwrap();
            assert!(name.starts_with("policy::") || exported.contains(outermost), "{name} is not public");
        }
        // Among remarks there are other things in code.
        for name in row.remarks.iter().filter(|name| name.contains("::")) {
            let Some(item) = ours(name) else { continue };
            assert!(items.aliases(item).is_some(), "there is no {name}");
        }
    }
}

#[test]
fn whatever_the_tables_of_other_chapters_name_exists() {
    let items = Items::of_the_library();
    let chapters = [include_str!("../../docs/guide/from-tokio.md"), include_str!("../../docs/guide/from-smol.md")];
    let rows: Vec<_> = chapters.into_iter().flat_map(rows).collect();
    let named = rows.iter().flat_map(|row| &row.rust).filter_map(|name| ours(name));
    let missing: Vec<_> = named.filter(|item| items.aliases(item).is_none()).collect();
    assert!(missing.is_empty(), "there is no {missing:?}");
}

#[test]
fn what_has_another_name_is_found_by_that_of_asyncio() {
    let items = Items::of_the_library();
    let mut missing = Vec::new();
    for row in rows(CHAPTER) {
        let here: Vec<_> = row.rust.iter().filter_map(|name| ours(name)).collect();
        if here.is_empty() {
            continue;
        }
        for name in &row.asyncio {
            let old = bare(name);
            let found = here.iter().any(|item| bare(item) == old || items.aliases(item).unwrap().contains(old));
            if !found {
                missing.push(format!("#[doc(alias = \"{old}\")] on one of {here:?}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
