#!/usr/bin/env python3
"""Draws docs/img/{connections,timers,tasks}.svg out of docs/img/scale.csv, which `cargo bench --bench scale` writes.

plot.py [--input FILE] [--output FOLDER]
"""

import argparse
import csv
import math
from html import escape
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "img"

# What is drawn: its title, what the x axis counts, the unit (and how many nanoseconds it has), and the panels.
PLOTS = {
    "connections": (
        "What a request costs the server, by the number of connections",
        "connections",
        ("µs of CPU time", 1000),
        {"echo": "echo of 64 bytes"},
    ),
    "timers": (
        "What a timer costs, by the number of timers",
        "live timers",
        ("ns", 1),
        {"insert_cancel": "armed and disarmed", "fire": "fired: its task is woken and ends"},
    ),
    "tasks": (
        "What a task costs, by the number of tasks",
        "live tasks",
        ("ns", 1),
        {"spawn_join": "spawned and awaited", "yield": "yields once"},
    ),
}

# Class in the style sheet, and the mark at each point: both tell the lines apart.
CONTESTANTS = {"roundelay": "circle", "tokio": "square", "smol": "triangle", "epoll": "diamond"}
LABELS = {"epoll": "epoll by hand"}

STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.card { fill: #ffffff; stroke: #d1d9e0 }
.grid { stroke: #e3e7ec; fill: none }
.title { font-size: 16px; font-weight: 600 }
.panel { font-weight: 600 }
.tick { font-size: 12px; fill: #59636e }
.line { fill: none; stroke-width: 2 }
.spread { stroke-width: 5; stroke-opacity: 0.25; stroke-linecap: round }
.roundelay { stroke: #c2410c } .roundelay.mark { fill: #c2410c } .roundelay.line { stroke-width: 3 }
.tokio { stroke: #0b62c4 } .tokio.mark { fill: #0b62c4 }
.smol { stroke: #0f7b4f } .smol.mark { fill: #0f7b4f }
.epoll { stroke: #6e7781 } .epoll.mark { fill: #6e7781 } .epoll.line { stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
svg { fill: #e6edf3 }
.card { fill: #0d1117; stroke: #3d444d }
.grid { stroke: #262c36 }
.tick { fill: #9198a1 }
.roundelay { stroke: #ff9248 } .roundelay.mark { fill: #ff9248 }
.tokio { stroke: #58a6ff } .tokio.mark { fill: #58a6ff }
.smol { stroke: #3fc98b } .smol.mark { fill: #3fc98b }
.epoll { stroke: #8b949e } .epoll.mark { fill: #8b949e }
}
"""

LEFT, RIGHT, TOP, BOTTOM = 54, 20, 126, 58
WIDTH, HEIGHT = 860, 420


def read(path):
    """plot -> operation -> contestant -> [(n, median, min, max)], in nanoseconds."""
    table = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            lines = table.setdefault(row["plot"], {}).setdefault(row["operation"], {})
            point = (int(row["n"]), *(float(row[key]) for key in ("ns", "min", "max")))
            lines.setdefault(row["contestant"], []).append(point)
    for operations in table.values():
        for lines in operations.values():
            for points in lines.values():
                points.sort()
    return table


def short(n):
    """1, 10, .., 1k, .., 1M; what is no round number in full."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if n >= size and n % size == 0:
            return f"{n // size}{letter}"
    return f"{n}"


def number(value):
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def mark(shape, x, y, css):
    if shape == "circle":
        return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    points = {
        "square": [(-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)],
        "triangle": [(0, -4.2), (4, 3.2), (-4, 3.2)],
        "diamond": [(0, -4.2), (4.2, 0), (0, 4.2), (-4.2, 0)],
    }[shape]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)
    return f'<polygon class="{css}" points="{path}"/>'


class Panel:
    """One pair of axes, both logarithmic."""

    def __init__(self, left, width, lines, unit):
        self.left, self.width, self.lines, self.unit = left, width, lines, unit
        self.top, self.height = TOP, HEIGHT - TOP - BOTTOM
        points = [point for points in lines.values() for point in points]
        self.numbers = sorted({point[0] for point in points})
        # From and to a tick, and a decade at least, so that what is flat looks flat.
        low, high = min(point[2] for point in points), max(point[3] for point in points)
        ticks = [step * 10**decade * unit for decade in range(-2, 8) for step in (1, 2, 5)]
        first = max(tick for tick in ticks if tick <= low)
        last = min(tick for tick in ticks if tick >= max(high, first * 10))
        self.ticks = [tick for tick in ticks if first <= tick <= last]

    def x(self, n):
        first, last = self.numbers[0], self.numbers[-1]
        share = math.log(n / first) / math.log(last / first) if last > first else 0.5
        return self.left + 14 + share * (self.width - 28)

    def y(self, value):
        first, last = self.ticks[0], self.ticks[-1]
        return self.top + self.height * (1 - math.log(value / first) / math.log(last / first))

    def draw(self, title, counted):
        left, right, bottom = self.left, self.left + self.width, self.top + self.height
        out = [f'<text class="panel" x="{left}" y="{self.top - 14}">{escape(title)}</text>']
        for tick in self.ticks:
            y = self.y(tick)
            out.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
            label = f"{tick / self.unit:g}"
            out.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        for n in self.numbers:
            x = self.x(n)
            out.append(f'<path class="grid" d="M{x:.1f} {self.top}V{bottom}"/>')
            out.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{short(n)}</text>')
        middle = left + self.width / 2
        out.append(f'<text class="tick" x="{middle}" y="{bottom + 42}" text-anchor="middle">{escape(counted)}</text>')
        # The first contestant comes last, on top.
        for name in reversed([name for name in CONTESTANTS if name in self.lines]):
            points = self.lines[name]
            for n, _, low, high in points:
                x = self.x(n)
                out.append(f'<path class="{name} spread" d="M{x:.1f} {self.y(low):.1f}V{self.y(high):.1f}"/>')
            path = "L".join(f"{self.x(n):.1f} {self.y(median):.1f}" for n, median, _, _ in points)
            out.append(f'<path class="{name} line" d="M{path}"/>')
            out += [mark(CONTESTANTS[name], self.x(n), self.y(median), f"{name} mark") for n, median, _, _ in points]
        return out


def in_words(panels, operations, counted, unit, size):
    """What the plot shows, for those who cannot see it."""
    sentences = []
    for operation, title in panels.items():
        for name, points in operations.get(operation, {}).items():
            (first, start, _, _), (last, end, _, _) = points[0], points[-1]
            sentences.append(
                f"{title}, {LABELS.get(name, name)}: {number(start / size)} {unit} at {first}, "
                f"{number(end / size)} {unit} at {last} {counted}."
            )
    return " ".join(sentences)


def draw(plot, operations):
    title, counted, (unit, size), panels = PLOTS[plot]
    panels = {operation: name for operation, name in panels.items() if operation in operations}
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(in_words(panels, operations, counted, unit, size))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="6"/>',
        f'<text class="title" x="20" y="30">{escape(title)}</text>',
        f'<text class="tick" x="20" y="52">{escape(unit)} per operation, medians; less is better; both axes are '
        "logarithmic</text>",
    ]
    names = [name for name in CONTESTANTS if any(name in lines for lines in operations.values())]
    x = 20
    for name in names:
        label = LABELS.get(name, name)
        out.append(f'<path class="{name} line" d="M{x} 74h28"/>')
        out.append(mark(CONTESTANTS[name], x + 14, 74, f"{name} mark"))
        out.append(f'<text x="{x + 35}" y="78">{escape(label)}</text>')
        x += 60 + 8 * len(label)
    share = WIDTH / len(panels)
    for place, (operation, name) in enumerate(panels.items()):
        panel = Panel(LEFT + place * share, share - LEFT - RIGHT, operations[operation], size)
        out += panel.draw(name, counted)
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=IMAGES / "scale.csv")
    parser.add_argument("--output", type=Path, default=IMAGES, help="the folder of the plots")
    arguments = parser.parse_args()
    table = read(arguments.input)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        if plot in table:
            path = arguments.output / f"{plot}.svg"
            path.write_text(draw(plot, table[plot]), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
