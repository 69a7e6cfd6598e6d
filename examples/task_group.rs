//! Asks several servers at once: all of them, or none; the fastest only; and not for ever.
//!
//! The tasks of a group belong together. The scope is done when all of them are; if one fails the others are cancelled, and
//! the error tells of everything that went wrong. A group that is cancelled, timed out or dropped takes its children along:
//! nothing goes on behind the back of whoever started it.
//!
//! Try it: `cargo run --example task_group`

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{TaskGroup, block_on, cancel_requested, gather, sleep};

/// A server that is as slow as it is far away, and may be down.
async fn ask(name: &'static str, distance: u64) -> io::Result<String> {
    sleep(Duration::from_millis(10 * distance)).await;
    match name {
        "down" => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody at home")),
        _ => Ok(format!("{name} says hello")),
    }
}

/// All answers, or an error and no answer.
async fn ask_all(servers: &[(&'static str, u64)]) -> io::Result<Vec<String>> {
    let children = TaskGroup::scope(async |group| {
        let start = |&(name, distance)| group.task_builder().name(name).spawn(ask(name, distance));
        servers.iter().map(start).collect::<Vec<_>>()
    });
    let mut answers = Vec::new();
    for child in children.await? {
        answers.push(child.await?);
    }
    Ok(answers)
}

/// The first answer; the others are not waited for.
async fn ask_fastest(servers: &[(&'static str, u64)]) -> Option<String> {
    let fastest = Rc::new(Cell::new(None));
    let asking = TaskGroup::scope(async |group| {
        for &(name, distance) in servers {
            let (group, fastest) = (group.clone(), fastest.clone());
            group.clone().spawn(async move {
                if let Ok(answer) = ask(name, distance).await {
                    fastest.set(Some(answer));
                    group.cancel();
                }
            });
        }
    });
    asking.await.ok()?;
    fastest.take()
}

/// A child that is told to end, and leaves things as they should be.
async fn keep_a_record() {
    println!("the record is open");
    cancel_requested().await;
    sleep(Duration::from_millis(10)).await;
    println!("the record is closed");
}

fn main() {
    block_on(async {
        match ask_all(&[("ann", 3), ("bob", 1)]).await {
            Ok(answers) => println!("all: {}", answers.join(", ")),
            Err(error) => println!("all: {error}"),
        }
        match ask_all(&[("ann", 3), ("down", 1), ("bob", 5)]).await {
            Ok(answers) => println!("with one down: {}", answers.join(", ")),
            Err(error) => println!("with one down: {error}"),
        }
        println!("fastest: {:?}", ask_fastest(&[("ann", 100), ("down", 0), ("bob", 1)]).await);

        // A limit for all of it, and some time to clean up.
        let limited = TaskGroup::scope(async |group| {
            group.spawn(keep_a_record());
            group.spawn(ask("far away", 1_000_000));
        });
        let limited = limited.timeout(Duration::from_millis(50)).grace(Duration::from_secs(1));
        if let Err(error) = limited.await {
            println!("with a limit: {error}");
        }

        // Where each answer counts for itself there is `gather`.
        let answers = gather([ask("down", 2), ask("cid", 1)]).await.unwrap_or_default();
        let told = answers.into_iter().map(|answer| answer.unwrap_or_else(|error| error.to_string()));
        println!("each: {}", told.collect::<Vec<_>>().join(", "));
    });
}
