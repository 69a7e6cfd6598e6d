"""Draws a part of a timeline, as `EventLoop::trace_to` writes it: that around what took longest.

    cargo run --release --example timeline target/timeline.json
    python3 docs/img/timeline.py target/timeline.json > docs/img/timeline.svg

Needs nothing but Python. It is no replacement for Perfetto, but shows on a page what one sees there.
"""

import json
import sys
from html import escape

WIDTH, LEFT, RIGHT = 860, 92, 12
MARGIN = 40e3  # microseconds before and after the stall
ROW = 22

COLOURS = {
    "turn": "#d8dee4",
    "task": "#6e93c8",
    "root": "#6e93c8",
    "callback": "#c79a4b",
    "timer": "#c79a4b",
    "post": "#5a9e6f",
    "event": "#9a83c2",
    "wait": "#f1f3f5",
    "slow": "#d1495b",
}


def main(path):
    events = [event for event in json.load(open(path)) if "ts" in event]
    names = {event["tid"]: event["args"]["name"] for event in json.load(open(path)) if event.get("name") == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    items = [event for event in slices if event["cat"] not in ("turn", "io") and event["dur"] != 0.05]
    stall = max(items, key=lambda event: event["dur"])
    loop, poster = stall["tid"], next((tid for tid in names if tid != stall["tid"]), None)
    begin, end = max(0, stall["ts"] - MARGIN), stall["ts"] + stall["dur"] + MARGIN
    scale = (WIDTH - LEFT - RIGHT) / (end - begin)

    def x(time):
        return LEFT + (min(max(time, begin), end) - begin) * scale

    def shown(event):
        return event["ts"] + event.get("dur", 0) >= begin and event["ts"] <= end

    out = []
    top = {"poster": 34, "turn": 34 + 2 * ROW, "items": 34 + 3 * ROW, "marks": 34 + 4 * ROW, "ready": 34 + 5 * ROW + 4}
    height = top["ready"] + 2 * ROW + 26

    def box(event, row, colour, label=""):
        left, right = x(event["ts"]), x(event["ts"] + event["dur"])
        width = max(right - left, 1.2)
        out.append(f'<rect x="{left:.1f}" y="{top[row]}" width="{width:.1f}" height="{ROW - 3}" fill="{colour}"/>')
        if width > 9 * len(label) * 0.8 and label:
            place = f'x="{left + 5:.1f}" y="{top[row] + 14}"'
            out.append(f'<text {place} class="label" fill="{"#fff" if colour == COLOURS["slow"] else "#1f2328"}">{escape(label)}</text>')

    millis = f'{stall["dur"] / 1e3:.0f} ms'
    for event in filter(shown, slices):
        slow = event is stall
        if event["tid"] != loop:
            box(event, "poster", COLOURS["post"])
        elif event["cat"] == "io":
            box(event, "items", COLOURS["wait"], "wait")
        elif event["cat"] == "turn":
            box(event, "turn", COLOURS["turn"], "turn")
        else:
            label = f'{event["name"]}   {millis}   {event["args"]["at"]}' if slow else event["name"]
            box(event, "items", COLOURS["slow"] if slow else COLOURS[event["cat"]], label)

    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    for event in events:
        if event["ph"] == "f" and shown(event) and event["id"] in starts and shown(starts[event["id"]]):
            a, b = x(starts[event["id"]]["ts"]), x(event["ts"])
            y1, y2 = top["poster"] + ROW - 3, top["turn"]
            out.append(f'<path d="M{a:.1f} {y1} C{a:.1f} {y1 + 16} {b:.1f} {y2 - 16} {b:.1f} {y2}" class="arrow"/>')

    late = [event for event in events if event.get("cat") == "late" and shown(event)]
    for event in late:
        at = x(event["ts"])
        out.append(f'<path d="M{at:.1f} {top["marks"] + 2} l4 12 h-8 z" fill="#d1495b"/>')
    if late:
        worst = max(late, key=lambda event: event["args"]["late_us"])
        text = f'timers: {worst["name"]}'
        out.append(f'<text x="{x(worst["ts"]) - 8:.1f}" y="{top["marks"] + 13}" text-anchor="end">{escape(text)}</text>')

    counters = [event for event in events if event["ph"] == "C" and event["name"] == "ready" and shown(event)]
    highest = max((event["args"]["value"] for event in counters), default=1)
    base, points, value = top["ready"] + 2 * ROW, [], 0
    points.append((LEFT, base))
    for event in counters:
        points.append((x(event["ts"]), base - value * (2 * ROW - 4) / highest))
        value = event["args"]["value"]
        points.append((x(event["ts"]), base - value * (2 * ROW - 4) / highest))
    points.append((WIDTH - RIGHT, base))
    path_text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    out.append(f'<polygon points="{path_text}" fill="#b8c7dc"/>')

    labels = [("poster", names.get(poster, "")), ("turn", "loop"), ("items", ""), ("marks", "late"), ("ready", "ready")]
    for row, label in labels:
        out.append(f'<text x="8" y="{top[row] + 14}">{escape(label)}</text>')
    step = 20e3
    tick = (begin // step + 1) * step
    while tick < end:
        out.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="24" y2="{base}" class="grid"/>')
        out.append(f'<text x="{x(tick):.1f}" y="{base + 18}" text-anchor="middle">{tick / 1e3:.0f} ms</text>')
        tick += step
    title = f"Around the stall: {stall['name']} runs for {millis}"
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
          'role="img" aria-labelledby="title description">')
    print(f'<title id="title">{escape(title)}</title>')
    print(f'<desc id="description">{escape(description(stall, late, names.get(poster, "")))}</desc>')
    print("<style>svg { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }\n"
          ".grid { stroke: #d0d7de; stroke-width: .5 } .arrow { fill: none; stroke: #5a9e6f; stroke-width: .8 }\n"
          ".label { font-size: 11px }</style>")
    print(f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>')
    print(f'<text x="8" y="17" font-weight="600">{escape(title)}</text>')
    print("\n".join(out))
    print("</svg>")


def description(stall, late, poster):
    worst = max((event["args"]["late_us"] for event in late), default=0) / 1e3
    return (f"The task {stall['name']}, spawned at {stall['args']['at']}, is polled for {stall['dur'] / 1e3:.0f} ms. "
            f"Nothing else runs meanwhile: {len(late)} timers are late, by up to {worst:.0f} ms, and what {poster} has posted "
            "runs in one burst afterwards.")


main(sys.argv[1])
