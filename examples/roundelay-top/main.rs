//! Shows a running loop as `top` shows processes: what it does, how late it is, and its tasks, the busiest first.
//!
//! It asks the inspector of another process, see [`roundelay::inspector`], and runs on roundelay itself: a task asks over a
//! unix stream, one reads keys from the terminal by `roundelay::stdin()`, and they meet in a channel. No thread is made.
//! While the other loop is blocked there is no answer, and the header says since when.
//!
//! Try it: in two terminals
//!
//! ```text
//! cargo run --features inspector --example chat -- 127.0.0.1:8889 --inspect /tmp/chat.sock
//! cargo run --features inspector --example roundelay-top -- /tmp/chat.sock
//! ```

mod arguments;
mod connection;
mod keys;
mod model;
mod screen;
mod view;

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use roundelay::{SignalKind, sleep, spawn};

use arguments::{Arguments, Mode};
use connection::Connection;
use keys::Key;
use model::{Model, Snapshot};
use screen::Screen;

/// How often the screen is drawn though nothing came: it shows for how long there was no answer.
const REDRAW: Duration = Duration::from_millis(250);

/// How long it waits before it connects anew.
const RETRY: Duration = Duration::from_secs(1);

/// How long `--once` and `--json` wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How wide `--once` prints.
const WIDTH: u16 = 140;

/// What the tasks tell the one that draws.
enum News {
    Answer(Box<Snapshot>),
    Lost(io::Error),
    Key(Key),
    Redraw,
    Quit,
}

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("roundelay-top: {error}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let result = roundelay::block_on(async {
        match arguments.mode {
            Mode::Json => print_json(&arguments).await,
            Mode::Once => print_once(&arguments).await,
            Mode::Top => top(arguments).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roundelay-top: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn answer(connection: &mut Connection) -> io::Result<String> {
    let answer = roundelay::timeout(PATIENCE, connection.ask("all")).await;
    answer.unwrap_or_else(|_| {
        let text = format!("no answer within {} s: the loop is blocked", PATIENCE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// One answer, as it came.
async fn print_json(arguments: &Arguments) -> io::Result<()> {
    println!("{}", answer(&mut Connection::open(&arguments.path).await?).await?);
    Ok(())
}

/// One picture, of what happens within an interval.
async fn print_once(arguments: &Arguments) -> io::Result<()> {
    let mut connection = Connection::open(&arguments.path).await?;
    let mut model = Model::new(arguments.interval);
    for round in 0..2 {
        if round > 0 {
            sleep(arguments.interval).await;
        }
        model.update(Snapshot::read(&answer(&mut connection).await?)?);
    }
    let height = u16::try_from(model.rows().len()).unwrap_or(u16::MAX).saturating_add(view::HEADER + 2);
    let mut terminal = Terminal::new(TestBackend::new(WIDTH, height))?;
    terminal.draw(|frame| view::draw(frame, &mut model, view::Style::Plain))?;
    let buffer = terminal.backend().buffer();
    for line in buffer.content().chunks(buffer.area.width.into()) {
        let text: String = line.iter().map(|cell| cell.symbol()).collect();
        println!("{}", text.trim_end());
    }
    Ok(())
}

/// Shows it until somebody has seen enough.
async fn top(arguments: Arguments) -> io::Result<()> {
    // An error at the beginning is told where it can be read.
    let connection = Connection::open(&arguments.path).await?;
    let mut model = Model::new(arguments.interval);
    let (news, mut heard) = unbounded();
    let mut screen = Screen::take()?;
    let pace = Rc::new(Cell::new(arguments.interval));
    // Dropped handles detach: the end of the loop is the end of these, too.
    drop(spawn(read_keys(news.clone())));
    drop(spawn(redraw(news.clone())));
    drop(spawn(signals(news.clone())));
    drop(spawn(ask(connection, arguments, pace.clone(), news)));
    loop {
        screen.draw(|frame| view::draw(frame, &mut model, view::Style::Colours))?;
        match heard.next().await {
            Some(News::Answer(snapshot)) => model.update(*snapshot),
            Some(News::Lost(error)) => model.lost(&error),
            Some(News::Key(key)) => {
                if model.press(key, screen.page()) {
                    return Ok(());
                }
                pace.set(model.interval);
            }
            Some(News::Redraw) => {}
            Some(News::Quit) | None => return Ok(()),
        }
    }
}

/// Asks again and again, and connects anew where the connection is lost.
async fn ask(connection: Connection, arguments: Arguments, pace: Rc<Cell<Duration>>, news: UnboundedSender<News>) {
    let mut connection = Some(connection);
    loop {
        let result = async {
            let open = match &mut connection {
                Some(open) => open,
                None => connection.insert(Connection::open(&arguments.path).await?),
            };
            Snapshot::read(&open.ask("all").await?)
        }
        .await;
        let (told, pause) = match result {
            Ok(snapshot) => (News::Answer(Box::new(snapshot)), pace.get()),
            Err(error) => {
                connection = None;
                (News::Lost(error), RETRY)
            }
        };
        if news.unbounded_send(told).is_err() {
            return;
        }
        sleep(pause).await;
    }
}

async fn read_keys(news: UnboundedSender<News>) {
    let Ok(mut input) = roundelay::stdin() else { return };
    loop {
        match input.read(64).await {
            Ok(bytes) if !bytes.is_empty() => {
                keys::keys(&bytes).for_each(|key| drop(news.unbounded_send(News::Key(key))));
            }
            // The terminal is gone.
            _ => return drop(news.unbounded_send(News::Quit)),
        }
    }
}

async fn redraw(news: UnboundedSender<News>) {
    while news.unbounded_send(News::Redraw).is_ok() {
        sleep(REDRAW).await;
    }
}

/// Signals that would end the process end the loop instead, which puts the terminal right.
async fn signals(news: UnboundedSender<News>) {
    let mut all = futures::stream::SelectAll::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        all.extend(roundelay::signal(kind));
    }
    all.next().await;
    drop(news.unbounded_send(News::Quit));
}
