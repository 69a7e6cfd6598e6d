//! An order by a seed: what is turned around and what is not, how a bug is found and seen again, and that nothing of
//! roundelay's own relies on an order that it does not promise.
#![cfg(feature = "test-util")]

mod common;
#[path = "common/group_tree.rs"]
mod group_tree;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use common::{Log, alone, run_on};
use group_tree::{check, tree, with_quiet_trees};
use roundelay::testing::{self, elapsed, settle};
use roundelay::{
    as_completed, gather, get_running_loop, open_connection, sleep, spawn, start_server, timeout, wait, yield_now,
};

const SECOND: Duration = Duration::from_secs(1);

/// How often a planted bug may be looked for.
const RUNS: u64 = 1000;

/// The order in which these are logged with a seed, or without one.
fn order(builder: testing::Builder, names: &'static str) -> String {
    builder.block_on(async {
        let log = Log::new();
        for name in names.chars() {
            let logged = log.clone();
            // Callbacks have capitals, timers digits.
            match name {
                'a'..='z' => drop(spawn(async move { logged.push(name) })),
                'A'..='Z' => drop(get_running_loop().unwrap().call_soon(move || logged.push(name))),
                _ => drop(get_running_loop().unwrap().call_later(SECOND, move || logged.push(name))),
            }
        }
        sleep(2 * SECOND).await;
        log.take().concat()
    })
}

fn seeded(seed: u64) -> testing::Builder {
    testing::Builder::new().seed(seed)
}

fn sorted(text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    chars.sort_unstable();
    chars.into_iter().collect()
}

/// Without a seed tasks run first in, first out; with one in an order that is the seed's own, and each order comes.
#[test]
fn tasks_are_turned_around() {
    let _alone = alone();
    assert_eq!(order(testing::Builder::new(), "abc"), "abc");
    let orders: Vec<String> = (0..100).map(|seed| order(seeded(seed), "abc")).collect();
    assert_eq!(orders, (0..100).map(|seed| order(seeded(seed), "abc")).collect::<Vec<_>>());
    assert_eq!(orders.into_iter().collect::<BTreeSet<_>>().len(), 6);
}

/// The orders of the first seeds, for ever: a seed that was noted down finds its bug in a later release, too.
#[test]
fn the_orders_of_seeds_never_change() {
    let _alone = alone();
    let orders: Vec<String> = (0..6).map(|seed| order(seeded(seed), "abcdefgh")).collect();
    assert_eq!(orders, ["bcgfeadh", "adhbcgfe", "achbgdfe", "cfbghdea", "aehbcfgd", "hcgeabfd"]);
}

/// A callback runs after what was queued before it and before what was queued behind it, as it is promised; and timers of
/// equal deadline are first in, first out.
#[test]
fn what_is_promised_stays() {
    let _alone = alone();
    for seed in 0..200 {
        let logged = order(seeded(seed), "abXcdYefZ0123456789");
        let (first, rest) = logged.split_at(2);
        let (second, rest) = rest.split_at(3);
        let (third, rest) = rest.split_at(3);
        assert_eq!((sorted(first).as_str(), sorted(second).as_str(), sorted(third).as_str()), ("ab", "Xcd", "Yef"));
        assert!(second.starts_with('X') && third.starts_with('Y') && rest.starts_with('Z'));
        assert_eq!(rest, "Z0123456789");
    }
}

/// On demand callbacks are turned around with the tasks, and timers of equal deadline among themselves.
#[test]
fn callbacks_and_timers_are_turned_around_if_asked() {
    let _alone = alone();
    let count = |orders: Vec<String>| orders.into_iter().collect::<BTreeSet<_>>().len();
    assert_eq!(count((0..200).map(|seed| order(seeded(seed).permute_callbacks(true), "aXY")).collect()), 6);
    assert_eq!(count((0..200).map(|seed| order(seeded(seed).permute_timers(true), "123")).collect()), 6);
    assert_eq!(count((0..200).map(|seed| order(seeded(seed).permute_timers(true), "XY")).collect()), 1);
    // Timers of different deadlines keep their order, though both are due in the same turn.
    for seed in 0..50 {
        let el = seeded(seed).permute_timers(true).build().unwrap();
        let (log, now) = (Log::new(), el.time());
        for name in ["late", "later", "latest"] {
            let after = Duration::from_millis(name.len() as u64);
            el.call_at(now - Duration::from_secs(1) + after, log.entry(name));
        }
        el.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(log.take(), ["late", "later", "latest"]);
        el.close();
    }
}

/// A test with an order bug of the kind that only shows in other orders: a cache that is filled by whoever comes first,
/// looked at by a third one who is only right if it was filled before.
async fn planted() {
    let cache = Rc::new(RefCell::new(None));
    let mut tasks = Vec::new();
    for n in 0..4 {
        let cache = cache.clone();
        tasks.push(spawn(async move {
            yield_now().await;
            if n == 3 {
                assert!(cache.borrow().is_some(), "nobody has filled the cache");
            }
            cache.borrow_mut().get_or_insert(n);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// The text of the panic with which a test fails.
#[track_caller]
fn failure<R>(test: impl FnOnce() -> R) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(test)) else { panic!("it does not fail") };
    *payload.downcast::<String>().unwrap()
}

/// The seed in the text of a failure.
fn seed_of(text: &str) -> u64 {
    let seed = text.split("ROUNDELAY_SEED=").nth(1).and_then(|rest| rest.split(' ').next());
    seed.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| panic!("no seed in {text:?}"))
}

/// What the processes of the tests below run.
const INSIDE: &str = "ROUNDELAY_INSIDE";

/// Runs this test again in another process, with a seed.
fn again(name: &str, seed: &str) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]).env(INSIDE, "1").env("ROUNDELAY_SEED", seed);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A planted bug is not seen in the usual order, is found by some seed, and is seen again, in another process, from that
/// seed alone.
#[test]
fn a_planted_bug_is_found_and_seen_again() {
    if std::env::var_os(INSIDE).is_some() {
        let runs = Rc::new(Cell::new(0));
        let counted = runs.clone();
        testing::explore(RUNS, move || {
            counted.set(counted.get() + 1);
            eprintln!("run {}", counted.get());
            planted()
        });
        return;
    }
    let _alone = alone();
    testing::block_on(planted());
    let text = failure(|| testing::explore(RUNS, planted));
    assert!(text.starts_with("testing::explore(): seed "), "{text}");
    assert!(text.contains("nobody has filled the cache"), "{text}");
    let seed = seed_of(&text);
    assert!(seed < RUNS);

    let name = "a_planted_bug_is_found_and_seen_again";
    let (passed, said) = again(name, &seed.to_string());
    assert!(!passed);
    assert!(said.contains("run 1\n") && !said.contains("run 2\n"), "{said}");
    assert!(said.contains(&format!("seed {seed} of 0..1000 fails")), "{said}");
    // One that finds nothing, and none at all.
    let good = (0..).find(|seed| catch_unwind(|| seeded(*seed).block_on(planted())).is_ok()).unwrap();
    assert!(again(name, &good.to_string()).0);
    let (passed, said) = again(name, "seventeen");
    assert!(!passed);
    assert!(said.contains("testing::explore(): ROUNDELAY_SEED is no seed: \"seventeen\""), "{said}");
}

/// Settings of one's own for each seed; what fails is named with it.
#[test]
fn each_seed_with_settings() {
    let _alone = alone();
    let mut seeds = Vec::new();
    let text = failure(|| {
        testing::for_each_seed(40..90, |seed| {
            seeds.push(seed);
            seeded(seed).permute_callbacks(true).block_on(async { assert!(seed < 42, "no more") });
        });
    });
    assert_eq!(text, "testing::for_each_seed(): seed 42 of 40..90 fails (ROUNDELAY_SEED=42 runs it alone): no more");
    assert_eq!(seeds, [40, 41, 42]);
    testing::for_each_seed(5..5, |_| panic!("there is none"));
}

/// The main future is turned around, too.
#[test]
fn the_main_future_is_one_of_those_that_are_turned_around() {
    let _alone = alone();
    let first = |seed| {
        seeded(seed).block_on(async {
            let log = Log::new();
            let other = log.clone();
            drop(spawn(async move {
                yield_now().await;
                other.push("task");
            }));
            yield_now().await;
            yield_now().await;
            log.push("main");
            settle().await;
            log.take().concat()
        })
    };
    let orders: BTreeSet<String> = (0..50).map(first).collect();
    assert_eq!(orders.len(), 2, "{orders:?}");
}

/// A connection in each order: what the transports promise holds in all of them.
#[test]
fn connections_do_not_rely_on_the_order_of_tasks() {
    let _alone = alone();
    testing::for_each_seed(0..25, |seed| {
        seeded(seed).block_on(async {
            let server = start_server(
                async |mut reader, mut writer| {
                    while let Ok(line @ [_, ..]) = reader.readline().await.as_deref() {
                        writer.write(line);
                        writer.drain().await.unwrap();
                    }
                },
                ("127.0.0.1", 0),
            )
            .await
            .unwrap();
            let address = server.local_addrs()[0];
            let clients = (0..4).map(|n| async move {
                let (mut reader, mut writer) = open_connection(address).await.unwrap();
                for round in 0..3 {
                    let line = format!("{n} {round}\n").into_bytes();
                    writer.write(&line);
                    assert_eq!(timeout(SECOND, reader.readline()).await.unwrap().unwrap(), line);
                }
                writer.close();
                writer.wait_closed().await.unwrap();
                n
            });
            assert_eq!(gather(clients).await.unwrap(), [0, 1, 2, 3]);
            server.shutdown(SECOND).await;
        });
    });
}

/// Random trees of task groups, each in an order of its own: no child is left and no error is lost, whoever comes first.
#[test]
fn trees_of_groups_do_not_rely_on_the_order() {
    with_quiet_trees(|| {
        let mut config = ProptestConfig::with_cases(150);
        config.failure_persistence = None;
        let drop_after = prop_oneof![Just(1000), 0..20_usize];
        proptest!(config, |(root in tree(), drop_after in drop_after, seed in any::<u64>(), eager in any::<bool>())| {
            let mut checked = Ok(());
            run_on(|| seeded(seed), |el| {
                el.set_eager_tasks(eager);
                checked = check(el, root, drop_after);
            });
            checked?;
        });
    });
}

/// What several tasks do, each of which takes some seconds and may be given up after some others.
#[derive(Clone, Debug)]
struct Timed {
    takes: u64,
    limit: u64,
}

impl Timed {
    /// What becomes of it, and when: by the contract of `timeout`, what is done at the deadline is in time.
    fn expected(&self) -> (bool, u64) {
        (self.takes <= self.limit, self.takes.min(self.limit))
    }

    async fn run(self) -> (bool, u64) {
        let in_time = timeout(self.limit as u32 * SECOND, sleep(self.takes as u32 * SECOND)).await.is_ok();
        (in_time, elapsed().as_secs())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sleeps, timeouts, `gather`, `wait` and `as_completed` over the same tasks say the same in each order.
    #[test]
    fn time_and_combinations_do_not_rely_on_the_order(
        timed in prop::collection::vec((1..6_u64, 1..6_u64).prop_map(|(takes, limit)| Timed { takes, limit }), 1..8),
        limit in 1..7_u64,
        seed in any::<u64>(),
    ) {
        let _alone = alone();
        let expected: Vec<_> = timed.iter().map(Timed::expected).collect();
        let run = |timed: &[Timed]| timed.iter().cloned().map(Timed::run).collect::<Vec<_>>();

        let gathered = seeded(seed).block_on(async { gather(run(&timed)).await.unwrap() });
        prop_assert_eq!(&gathered, &expected);

        let (done, left) = seeded(seed).block_on(async {
            let waited = wait(run(&timed).into_iter().map(spawn)).timeout(limit as u32 * SECOND).await;
            (waited.done.len(), waited.pending.len())
        });
        // At the deadline itself either is right.
        let before = expected.iter().filter(|(_, at)| *at < limit).count();
        let by_then = expected.iter().filter(|(_, at)| *at <= limit).count();
        prop_assert!((before..=by_then).contains(&done), "{} of {:?}", done, &expected);
        prop_assert_eq!(done + left, timed.len());

        let completed = seeded(seed).block_on(async {
            let mut completed = as_completed(run(&timed));
            let mut outputs = Vec::new();
            while let Some((n, output)) = completed.next().await {
                outputs.push((output.1, n, output.0));
            }
            outputs
        });
        prop_assert!(completed.is_sorted_by_key(|(at, ..)| *at), "{:?}", completed);
        prop_assert!(completed.iter().all(|(at, n, in_time)| expected[*n] == (*in_time, *at)));
    }
}
