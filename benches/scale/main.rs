//! What an operation costs, and how that depends on how much there is: from 1 to 10 000 connections, from 10 to a million
//! timers, from 1 to a million tasks. roundelay, tokio and smol side by side.
//!
//! `cargo bench --bench scale` measures all and writes `docs/img/scale.csv`, out of which `benches/plot.py` makes the
//! plots. `-- tasks timers` measures these alone and leaves the rest of the file as it is; `-- --quick` tries each
//! for a moment and writes nothing; `--rounds N` and `--output FILE` say how often, and where to.
//!
//! Each sample is taken in a process of its own, whose heap nobody has used before; the contestants take turns, in
//! another order in each round; what counts is the median. Linux only.

mod connections;
mod machine;

#[path = "../runtimes/mod.rs"]
mod runtimes;

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtimes::{Roundelay, Runtime, Smol, Tokio, work};

/// One thing that is measured, at each of these numbers.
struct Series {
    plot: &'static str,
    operation: &'static str,
    numbers: &'static [u64],
    /// The contestants that can do it.
    contestants: &'static [&'static str],
}

const RUNTIMES: &[&str] = &[Roundelay::NAME, Tokio::NAME, Smol::NAME];

const SERIES: [Series; 5] = [
    Series {
        plot: "connections",
        operation: "echo",
        numbers: &[1, 10, 100, 1000, 10_000],
        contestants: &[Roundelay::NAME, Tokio::NAME, Smol::NAME, connections::BARE],
    },
    Series {
        plot: "timers",
        operation: "insert_cancel",
        numbers: &[10, 100, 1000, 10_000, 100_000, 1_000_000],
        contestants: RUNTIMES,
    },
    Series {
        plot: "timers",
        operation: "fire",
        numbers: &[10, 100, 1000, 10_000, 100_000, 1_000_000],
        contestants: RUNTIMES,
    },
    Series {
        plot: "tasks",
        operation: "spawn_join",
        numbers: &[1, 10, 100, 1000, 10_000, 100_000, 1_000_000],
        contestants: RUNTIMES,
    },
    Series {
        plot: "tasks",
        operation: "yield",
        numbers: &[1, 10, 100, 1000, 10_000, 100_000, 1_000_000],
        contestants: RUNTIMES,
    },
];

const HEADER: &str = "plot,operation,contestant,n,ns,min,max,samples";
const OUTPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/img/scale.csv");

/// In quick mode no number is larger than this, and no sample long.
const QUICK_LIMIT: u64 = 100;

/// Nanoseconds per operation.
fn sample<R: Runtime>(operation: &str, n: u64, quick: bool) -> f64 {
    let runtime = R::new();
    // Enough of them to be above the clock's noise.
    let times = |enough: u64| if quick { 1 } else { (enough / n).max(1) };
    let (time, operations) = match operation {
        "spawn_join" => runtime.block_on(async {
            work::spawn_join::<R>(n).await;
            let times = times(200_000);
            let start = Instant::now();
            for _ in 0..times {
                work::spawn_join::<R>(n).await;
            }
            (start.elapsed(), n * times)
        }),
        "yield" => runtime.block_on(async {
            let each = times(1_000_000).max(10);
            work::yields::<R>(n, each / 10).await;
            (work::yields::<R>(n, each).await, n * each)
        }),
        "insert_cancel" => runtime.block_on(async {
            let alive = work::alive::<R>(n).await;
            work::insert_cancel::<R>(10_000);
            let times = if quick { 1000 } else { 200_000 };
            let start = Instant::now();
            work::insert_cancel::<R>(times);
            let time = start.elapsed();
            drop(alive);
            (time, times)
        }),
        "fire" => runtime.block_on(async {
            work::fire::<R>(n.min(100_000)).await;
            let times = times(5000).min(50);
            let mut time = Duration::ZERO;
            for _ in 0..times {
                time += work::fire::<R>(n).await;
            }
            (time, n * times)
        }),
        operation => panic!("no operation {operation}"),
    };
    time.as_nanos() as f64 / operations as f64
}

/// What the child process does that takes a sample.
fn take_sample(operation: &str, contestant: &str, n: u64, quick: bool) -> f64 {
    if operation == "echo" {
        return connections::sample(contestant, n, quick);
    }
    machine::pin_to_first_cpu();
    match contestant {
        Roundelay::NAME => sample::<Roundelay>(operation, n, quick),
        Tokio::NAME => sample::<Tokio>(operation, n, quick),
        Smol::NAME => sample::<Smol>(operation, n, quick),
        contestant => panic!("no contestant {contestant}"),
    }
}

/// Has a sample taken by a child process.
fn sample_in_child(series: &Series, contestant: &str, n: u64, quick: bool) -> f64 {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
    child.args(["--sample", series.operation, contestant, &n.to_string(), if quick { "quick" } else { "full" }]);
    if series.plot != "connections" {
        // Memory that was given back between warm-up and measurement would have to be asked for again.
        child.env("MALLOC_TRIM_THRESHOLD_", "4000000000").env("MALLOC_MMAP_THRESHOLD_", "4000000000");
    }
    let output = child.stderr(Stdio::inherit()).output().expect("this program can be run");
    assert!(output.status.success(), "{} of {contestant} at {n} failed: {}", series.operation, output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("a sample is a number")
}

struct Options {
    plots: Vec<String>,
    quick: bool,
    rounds: usize,
    output: Option<String>,
}

fn options() -> Options {
    let mut options = Options { plots: Vec::new(), quick: false, rounds: 0, output: None };
    let mut measured = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => measured = true,
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--output" => options.output = Some(value()),
            option if option.starts_with('-') => panic!("no option {option}"),
            plot => options.plots.push(plot.to_owned()),
        }
    }
    // `cargo test --benches` runs it, too, and only wants to know whether it works.
    options.quick |= !measured;
    if options.rounds == 0 {
        options.rounds = if options.quick { 1 } else { 5 };
    }
    if options.output.is_none() && !options.quick {
        options.output = Some(OUTPUT.to_owned());
    }
    options
}

/// The plot that a line of the table belongs to.
fn plot_of(line: &str) -> &str {
    line.split(',').next().unwrap_or("")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--sample", operation, contestant, n, how] => {
            let n = n.parse().expect("a number");
            println!("{:.2}", take_sample(operation, contestant, n, how == "quick"));
            return;
        }
        ["--load", port, n, how] => {
            let n = n.parse().expect("a number of connections");
            connections::load(port.parse().expect("a port"), n, how == "quick").expect("the server is there");
            return;
        }
        _ => {}
    }

    let options = options();
    let chosen = |series: &&Series| options.plots.is_empty() || options.plots.iter().any(|plot| plot == series.plot);
    let series: Vec<&Series> = SERIES.iter().filter(chosen).collect();
    if series.is_empty() {
        // Not a failure: all benches of a `cargo bench -- NAME` are given the name.
        eprintln!("scale: there are the plots connections, timers and tasks, not {:?}", options.plots);
        return;
    }
    let most_connections = connections::most();
    let largest = |series: &Series| match series.plot {
        _ if options.quick => QUICK_LIMIT,
        "connections" => most_connections,
        _ => u64::MAX,
    };

    let began = Instant::now();
    let mut samples: BTreeMap<(usize, u64, usize), Vec<f64>> = BTreeMap::new();
    for round in 0..options.rounds {
        for (place, series) in series.iter().enumerate() {
            let mut numbers: Vec<u64> = series.numbers.iter().map(|n| (*n).min(largest(series))).collect();
            numbers.dedup();
            if round == 0 && !options.quick && numbers.last() != series.numbers.last() {
                eprintln!("{}: the limit of descriptors stops it at {:?}", series.plot, numbers.last());
            }
            for n in numbers {
                for turn in 0..series.contestants.len() {
                    // Who comes first differs from round to round.
                    let which = (turn + round) % series.contestants.len();
                    let ns = sample_in_child(series, series.contestants[which], n, options.quick);
                    samples.entry((place, n, which)).or_default().push(ns);
                }
            }
        }
        eprintln!("round {} of {}: {:.0?}", round + 1, options.rounds, began.elapsed());
    }

    let mut lines = Vec::new();
    for ((place, n, which), mut taken) in samples {
        let Series { plot, operation, contestants, .. } = series[place];
        taken.sort_by(f64::total_cmp);
        let (min, median, max) = (taken[0], taken[taken.len() / 2], taken[taken.len() - 1]);
        let contestant = contestants[which];
        let count = taken.len();
        lines.push(format!("{plot},{operation},{contestant},{n},{median:.1},{min:.1},{max:.1},{count}"));
    }
    println!("{HEADER}\n{}", lines.join("\n"));
    if let Some(path) = &options.output {
        write(path, &lines).expect("the output can be written");
    }
}

/// Writes the table to a file, in which the plots that were not measured stay as they are.
fn write(path: &str, lines: &[String]) -> io::Result<()> {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let mut table = vec![HEADER];
    for plot in ["connections", "timers", "tasks"] {
        let measured = || lines.iter().map(String::as_str).filter(|line| plot_of(line) == plot);
        match measured().next() {
            Some(_) => table.extend(measured()),
            None => table.extend(before.lines().filter(|line| plot_of(line) == plot)),
        }
    }
    if let Some(folder) = std::path::Path::new(path).parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, table.join("\n") + "\n")
}
