#!/usr/bin/env python3
"""Makes roundelay-top.svg: a picture of a terminal in which roundelay-top looks at the chat example under load.

    cargo build --release --features inspector --example chat --example roundelay-top
    python3 docs/img/roundelay-top.py [target/release/examples]

What the picture shows was on the screen: tmux is the terminal, and gives its content with all colours. Needs tmux.
"""

import html
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

COLUMNS, ROWS = 132, 24
CLIENTS, LINES_PER_SECOND, SECONDS = 12, 1000, 15

# Of a cell, in pixels; the font's own width may differ, so each run of text is given its length.
WIDTH, HEIGHT, MARGIN = 8.4, 18, 12
FOREGROUND, BACKGROUND = "#d8dee9", "#1d2129"
COLOURS = ["#2e3440", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9"]


class Load:
    """Clients that talk, and read what the others say."""

    def __init__(self, address):
        self.running = True
        self.clients = [socket.create_connection(address) for _ in range(CLIENTS)]
        self.thread = threading.Thread(target=self.talk, daemon=True)
        self.thread.start()

    def talk(self):
        line = b"the quick brown fox jumps over the lazy dog, and tells all the others of it\n"
        begun, said = time.monotonic(), 0
        while self.running:
            for client in select.select(self.clients, [], [], 0.001)[0]:
                client.recv(1 << 20)
            due = int((time.monotonic() - begun) * CLIENTS * LINES_PER_SECOND)
            while said < due:
                self.clients[said % CLIENTS].sendall(line)
                said += 1

    def stop(self):
        self.running = False
        self.thread.join()


def capture(folder):
    """The screen as text with escape sequences."""
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "chat.sock")
        chat = subprocess.Popen(
            [os.path.join(folder, "chat"), "127.0.0.1:0", "--inspect", path], stdout=subprocess.PIPE, text=True
        )
        host, port = chat.stdout.readline().rsplit(" ", 1)[1].strip().rsplit(":", 1)
        chat.stdout.readline()
        threading.Thread(target=chat.stdout.read, daemon=True).start()
        load = Load((host, int(port)))
        tmux = ["tmux", "-L", f"roundelay-top-{os.getpid()}"]
        top = f"{os.path.join(folder, 'roundelay-top')} --interval 0.25 {path}"
        try:
            # Without the user's own settings.
            size = ["-x", str(COLUMNS), "-y", str(ROWS)]
            subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", *size, top], check=True)
            time.sleep(SECONDS)
            return subprocess.run([*tmux, "capture-pane", "-e", "-N", "-p"], check=True, capture_output=True, text=True).stdout
        finally:
            subprocess.run([*tmux, "kill-server"])
            load.stop()
            chat.terminate()


class Look:
    """How the next characters look."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.fg = self.bg = None
        self.bold = self.dim = self.underline = self.reverse = False

    def apply(self, codes):
        codes = iter([int(code or 0) for code in codes.split(";")])
        for code in codes:
            if code in (38, 48):
                # One of the 256 colours, of which the first sixteen are used.
                next(codes)
                setattr(self, "fg" if code == 38 else "bg", COLOURS[next(codes) % 8])
            elif code == 0:
                self.reset()
            elif code in (1, 2, 4, 7):
                setattr(self, {1: "bold", 2: "dim", 4: "underline", 7: "reverse"}[code], True)
            elif code == 22:
                self.bold = self.dim = False
            elif code in (24, 27):
                setattr(self, {24: "underline", 27: "reverse"}[code], False)
            elif 30 <= code <= 37:
                self.fg = COLOURS[code - 30]
            elif 90 <= code <= 97:
                self.fg = COLOURS[code - 90]
            elif 40 <= code <= 47:
                self.bg = COLOURS[code - 40]
            elif code == 39:
                self.fg = None
            elif code == 49:
                self.bg = None

    def colours(self):
        fg, bg = self.fg or FOREGROUND, self.bg
        return (bg or BACKGROUND, fg) if self.reverse else (fg, bg)


def runs(line, look):
    """The pieces of a line that look alike: column, text, look."""
    column = 0
    for piece in re.split(r"(\x1b\[[0-9;]*m)", line):
        if piece.startswith("\x1b"):
            look.apply(piece[2:-1])
        elif piece:
            yield column, piece
            column += len(piece)


def svg(screen):
    width, height = COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">',
        "<title>roundelay-top looks at the chat example under load</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" '
        'font-size="14" xml:space="preserve">',
    ]
    look = Look()
    for row, line in enumerate(screen.split("\n")[:ROWS]):
        y = MARGIN + row * HEIGHT
        for column, text in runs(line, look):
            fg, bg = look.colours()
            x, length = MARGIN + column * WIDTH, len(text) * WIDTH
            if bg:
                out.append(f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{HEIGHT}" fill="{bg}"/>')
            if not text.strip():
                continue
            style = ' font-weight="bold"' if look.bold else ""
            style += ' opacity="0.65"' if look.dim else ""
            style += ' text-decoration="underline"' if look.underline else ""
            out.append(
                f'<text x="{x:.1f}" y="{y + 14}" textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs" '
                f'fill="{fg}"{style}>{html.escape(text)}</text>'
            )
    out += ["</g>", "</svg>", ""]
    return "\n".join(out)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../../target/release/examples")
    with open(os.path.join(here, "roundelay-top.svg"), "w", encoding="utf-8") as file:
        file.write(svg(capture(folder)))


if __name__ == "__main__":
    main()
