//! What it looks like.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};

use crate::model::{Model, Order, Row as Task, Snapshot};

/// How many lines are above the table.
pub(crate) const HEADER: u16 = 7;

/// A long chain of tasks is drawn no deeper: there is no room for it, and each row would be as long as the chain.
const DEEPEST: usize = 24;

/// What it is drawn for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Colours,
    /// As text, of all there is.
    Plain,
}

pub(crate) fn draw(frame: &mut Frame<'_>, model: &mut Model, style: Style) {
    let [header, table, footer] =
        Layout::vertical([Constraint::Length(HEADER), Constraint::Min(2), Constraint::Length(1)]).areas(frame.area());
    draw_header(frame, header, model, style);
    draw_table(frame, table, model, style);
    if style == Style::Colours {
        frame.render_widget(help(model), footer);
    }
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, model: &Model, style: Style) {
    let Some(latest) = &model.latest else {
        return frame.render_widget(Paragraph::new("waiting for an answer").dim(), area);
    };
    let (metrics, rates) = (&latest.metrics, &model.rates);
    let lines = vec![
        title(latest, model),
        pairs(&[
            ("turns/s", number(rates.turns)),
            ("polls/s", number(rates.polls)),
            ("callbacks/s", number(rates.callbacks)),
            ("events/s", number(rates.events)),
            ("timers/s", number(rates.timers)),
            ("posts/s", number(rates.posts)),
            ("spawned/s", number(rates.spawned)),
        ]),
        pairs(&[
            ("tasks", latest.tasks.tasks.len().to_string()),
            ("ready", format!("{} (most {})", metrics.ready, metrics.longest_ready)),
            ("timers", metrics.timers.to_string()),
            ("fds", metrics.descriptors.to_string()),
            ("transports", metrics.transports.to_string()),
            ("servers", metrics.servers.to_string()),
            ("in/s", bytes(rates.bytes_in)),
            ("out/s", bytes(rates.bytes_out)),
        ]),
        pairs(&[
            ("lag p50", time(rates.lag[0])),
            ("p99", time(rates.lag[1])),
            ("max", time(rates.lag[2])),
            ("ever", time(metrics.lag.max_ns as f64 / 1e9)),
            ("timers late p50", time(rates.late[0])),
            ("p99", time(rates.late[1])),
            ("max", time(rates.late[2])),
        ]),
        Line::from(vec![
            Span::from("busy ").dim(),
            Span::styled(format!("{:5.1} % ", 100.0 * rates.busy), heat(rates.busy)),
            Span::styled(bar(rates.busy, 30), heat(rates.busy)),
        ]),
    ];
    frame.render_widget(Paragraph::new(lines), area);
    // Beside the bar, and a line higher than it: how it was before.
    let (width, last) = (area.width.saturating_sub(46), HEADER - 3);
    if style == Style::Colours && width > 0 && area.height >= HEADER {
        let place = Rect { x: area.x + 46, y: area.y + last, width, height: 2 };
        let skip = model.history.len().saturating_sub(width.into());
        let history: Vec<u64> = model.history.iter().skip(skip).copied().collect();
        // A tenth is a full column at least, so that little is not made to look like much.
        let most = history.iter().copied().max().unwrap_or(0).max(100);
        let line = Sparkline::default().data(&history).max(most).style(Look::new().fg(Color::Green));
        frame.render_widget(line, place);
    }
}

fn title(latest: &Snapshot, model: &Model) -> Line<'static> {
    let mut spans = vec![
        Span::from(latest.program.clone()).bold().cyan(),
        Span::from(format!("  pid {}  loop {}", latest.pid, latest.loop_id)),
    ];
    if let Some(name) = &latest.name {
        spans.push(Span::from(format!(" {name:?}")));
    }
    spans.push(Span::from(format!("  up {}", age(latest.metrics.uptime_ns as f64 / 1e9))));
    spans.push(Span::from(format!("  roundelay {}", latest.roundelay)).dim());
    if let Some(trouble) = &model.trouble {
        spans.push(Span::from(format!("  {trouble}")).bold().red());
    } else if let Some(silence) = model.silence() {
        spans.push(Span::from(format!("  NO ANSWER for {:.1} s: blocked", silence.as_secs_f64())).bold().red());
    }
    if model.paused {
        spans.push(Span::from("  stopped").bold().yellow());
    }
    Line::from(spans)
}

fn pairs(pairs: &[(&'static str, String)]) -> Line<'static> {
    let spans = pairs.iter().flat_map(|(name, value)| {
        [Span::from(*name).dim(), Span::from(" "), Span::from(value.clone()).bold(), Span::from("   ")]
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, model: &Model, style: Style) {
    let mark = |order, name: &'static str| {
        let cell = Cell::from(name);
        if model.order == order { cell.style(Look::new().add_modifier(Modifier::UNDERLINED)) } else { cell }
    };
    let header = Row::new([
        mark(Order::Id, "    ID"),
        mark(Order::Name, "NAME"),
        Cell::from("STATE"),
        mark(Order::Age, "    AGE"),
        mark(Order::Polls, " POLLS/s"),
        mark(Order::Busy, "BUSY %"),
        Cell::from("WAITS FOR"),
        Cell::from("SPAWNED AT"),
    ]);
    let header = header.style(Look::new().fg(Color::Black).bg(Color::Green));
    let widths = [
        Constraint::Length(6),
        Constraint::Fill(4),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Fill(4),
        Constraint::Fill(3),
    ];
    let mut table = Table::new(model.rows().iter().map(row), widths).header(header).column_spacing(1);
    let mut state = TableState::default();
    if style == Style::Colours {
        table = table.row_highlight_style(Look::new().add_modifier(Modifier::REVERSED));
        state.select(Some(model.selected));
    }
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(task: &Task) -> Row<'static> {
    let share = task.busy.unwrap_or(0.0);
    let branch =
        if task.depth == 0 { String::new() } else { format!("{}└ ", "  ".repeat(task.depth.min(DEEPEST) - 1)) };
    let state = match task.state.as_str() {
        "running" => Cell::from("running").green(),
        "cancelling" => Cell::from("cancelling").yellow(),
        other => Cell::from(other.to_owned()).dim(),
    };
    Row::new([
        Cell::from(format!("{:>6}", task.id)),
        Cell::from(Line::from(vec![Span::from(branch).dim(), Span::from(task.name.clone()).bold()])),
        state,
        Cell::from(format!("{:>7}", age(task.age))),
        Cell::from(format!("{:>8}", task.polls.map_or("new".into(), number))),
        Cell::from(format!("{:>6}", task.busy.map_or("-".into(), |busy| format!("{:.1}", 100.0 * busy))))
            .style(heat(share)),
        Cell::from(task.waits_for.clone()),
        Cell::from(task.spawned_at.clone()).dim(),
    ])
}

fn help(model: &Model) -> Line<'static> {
    let keys =
        [("q", "quit"), ("b p a i n", "sort"), ("r", "reverse"), ("t", "tree"), ("space", "stop"), ("+ -", "pace")];
    let mut spans: Vec<Span<'static>> = keys
        .iter()
        .flat_map(|(key, what)| [Span::from(*key).bold(), Span::from(format!(" {what}   ")).dim()])
        .collect();
    spans.push(Span::from(format!("every {:.3} s", model.interval.as_secs_f64())).dim());
    Line::from(spans)
}

/// From green to red.
fn heat(share: f64) -> Look {
    let colour = match share {
        share if share >= 0.8 => Color::Red,
        share if share >= 0.4 => Color::Yellow,
        share if share > 0.0 => Color::Green,
        _ => Color::Reset,
    };
    Look::new().fg(colour)
}

fn bar(share: f64, width: usize) -> String {
    let full = ((share * width as f64).round() as usize).min(width);
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value if value >= 10.0 || value == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

fn bytes(value: f64) -> String {
    match value {
        value if value >= f64::from(1 << 30) => format!("{:.1} GiB", value / f64::from(1 << 30)),
        value if value >= f64::from(1 << 20) => format!("{:.1} MiB", value / f64::from(1 << 20)),
        value if value >= f64::from(1 << 10) => format!("{:.1} KiB", value / f64::from(1 << 10)),
        value => format!("{value:.0} B"),
    }
}

/// A short time.
fn time(seconds: f64) -> String {
    match seconds {
        0.0 => "-".into(),
        seconds if seconds < 1e-6 => format!("{:.0} ns", seconds * 1e9),
        seconds if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

/// A long time.
fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX).as_secs();
    match (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, 0, _) => format!("{seconds:.1}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}
