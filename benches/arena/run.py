#!/usr/bin/env python3
"""Runs the contestants of the arena, interleaved round by round.

run.py list
run.py micro     [--workloads a,b] [--n N]
run.py echo|tls-echo|echo-unix|udp-echo|accept|http
                 [--conns 1,50,1000] [--size 64,1024,16384] [--depth 1]
run.py idle      [--conns 10000]
run.py all       everything, with moderate durations
run.py servers   everything but micro
common: [--peers a,b] [--rounds 3] [--base tokio] [--secs 0.5] [--warmup 0.25]
        [--buf 65536] [--json out.json [--merge]] [--md out.md] [--extra CMD]...
"""

import argparse
import atexit
import functools
import glob
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "target"))
BIN = os.path.join(TARGET, "release")
PYTHONS = [
    os.environ.get("ARENA_PYTHON", ""),
    *sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[3-9]*/bin/python"))),
    sys.executable,
]
SERVER_CPU, LOAD_CPU = "0", "1"
PORTS = itertools.cycle(range(21000, 29000))  # a fresh one each time: a ring may hold the old one a while
LOAD_MODE = {"echo-unix": "echo", "udp-echo": "udp"}


def discover(extra):
    """Every bin but `load` that answers `info`; name -> {cmd, micro, serve}."""
    cmds = [
        [os.path.join(BIN, os.path.basename(f)[:-3])]
        for f in sorted(glob.glob(os.path.join(HERE, "src/bin/*.rs")))
        if not f.endswith("/load.rs")
    ]
    cmds.append([os.path.join(BIN, "libuv")])
    py = next(p for p in PYTHONS if p and os.path.exists(p))
    cmds.append([py, os.path.join(HERE, "other/python_peer.py")])
    cmds += [e.split() for e in extra]
    peers = {}
    for cmd in cmds:
        if not os.path.exists(cmd[0]):
            print(f"not built: {cmd[0]}", file=sys.stderr)
            continue
        out = subprocess.run(cmd + ["info"], capture_output=True, text=True).stdout
        for p in json.loads(out)["peers"]:
            peers[p["name"]] = {"cmd": cmd + ["--peer", p["name"]], "micro": p["micro"], "serve": p["serve"]}
    order = [
        "roundelay",
        "roundelay-streams",
        "roundelay-hyper",
        "tokio",
        "tokio-local",
        "smol",
        "monoio",
        "monoio-legacy",
        "compio",
        "glommio",
    ]
    last = ["raw-epoll", "raw-uring", "libuv", "asyncio", "uvloop"]
    rank = lambda n: order.index(n) if n in order else 100 + last.index(n) if n in last else 50
    return dict(sorted(peers.items(), key=lambda kv: rank(kv[0])))


def last_json(text):
    for line in reversed(text.strip().splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return None


def run_micro(peer, workload, n):
    cmd = peer["cmd"] + ["micro", workload] + (["--n", str(n)] if n else [])
    try:
        p = subprocess.run(cmd, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return {"error": "timeout"}
    return last_json(p.stdout) or {"error": f"rc {p.returncode}: {p.stderr.strip()[-200:]}"}


@functools.cache
def certificate():
    """A folder with cert.pem and key.pem, for this run."""
    folder = tempfile.mkdtemp(prefix="arena-cert-")
    atexit.register(shutil.rmtree, folder)
    subprocess.run([os.path.join(BIN, "load"), "cert", "--cert", folder], check=True)
    return folder


def run_server(peer, kind, cfg, a):
    port = next(PORTS)
    where = ["--port", str(port)]
    path = f"/tmp/arena-{os.getpid()}-{port}.sock"
    if kind == "echo-unix":
        where += ["--path", path]
    if kind == "tls-echo":
        where += ["--cert", certificate()]
    buf = "4096" if cfg.get("idle") else str(a.buf)
    srv = subprocess.Popen(
        ["taskset", "-c", SERVER_CPU] + peer["cmd"] + [kind] + where + ["--buf", buf],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        if srv.stdout.readline().strip() != "READY":
            return {"error": f"server did not start (rc {srv.poll()})"}
        time.sleep(0.05)
        load = [
            os.path.join(BIN, "load"),
            "idle" if cfg.get("idle") else LOAD_MODE.get(kind, kind),
            "--pid",
            str(srv.pid),
            "--cpu",
            LOAD_CPU,
            "--secs",
            str(a.secs),
            "--warmup",
            str(a.warmup),
        ] + where
        for k in ("conns", "size", "depth"):
            if k in cfg:
                load += ["--" + k, str(cfg[k])]
        try:
            p = subprocess.run(load, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return {"error": "timeout"}
        return last_json(p.stdout) or {"error": f"load rc {p.returncode} {p.stderr.strip()[-200:]}"}
    finally:
        srv.kill()
        srv.wait()
        if os.path.exists(path):
            os.unlink(path)


def median(samples):
    """Medians of all numeric fields, and the spread of the main ones."""
    ok = [s for s in samples if "error" not in s]
    if not ok:
        return {"error": samples[-1]["error"] if samples else "none"}
    m = {}
    for k in ok[0]:
        v = [s[k] for s in ok if isinstance(s.get(k), (int, float)) and not isinstance(s.get(k), bool)]
        if v:
            m[k] = statistics.median(v)
            if k in ("ns_per_op", "cpu_ns_per_op", "server_cpu_us_per_req", "rps"):
                m[k + "_min"], m[k + "_max"] = min(v), max(v)
    m["samples"] = len(ok)
    if len(ok) < len(samples):
        m["failed"] = len(samples) - len(ok)
    return m


def num(v):
    if v is None:
        return "-"
    a = abs(v)
    return f"{v:.0f}" if a >= 1000 else f"{v:.1f}" if a >= 10 else f"{v:.2f}"


def table(head, rows):
    out = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|"]
    out += ["| " + " | ".join(str(c) for c in r) + " |" for r in rows]
    return "\n".join(out)


MAIN = {"timer_fire": "cpu_ns_per_op", "cross_thread_wake": "cpu_ns_per_op", "cross_thread_wake_idle": "ns_per_op"}


def micro_table(res, peers, base):
    names = [p for p in peers if any(p in r for r in res.values())]
    rows = []
    for w, r in res.items():
        variants = [(w, MAIN.get(w, "ns_per_op"))]
        if w == "cross_thread_wake":
            variants = [
                ("cross_thread_wake (round trip)", "ns_per_op"),
                ("cross_thread_wake (loop CPU)", "cpu_ns_per_op"),
            ]
        elif w == "cross_thread_post":
            variants = [(w, "ns_per_op"), (w + " (CPU of both threads)", "cpu_ns_per_op")]
        elif w == "timer_fire":
            variants = [(w + " (CPU)", "cpu_ns_per_op"), (w + " (mean lateness, µs)", "late_mean_us")]
        elif w == "sleep_latency":
            variants = [("sleep_latency (overshoot)", "ns_per_op"), ("sleep_latency (CPU)", "cpu_ns_per_op")]
        for label, key in variants:
            b = r.get(base, {}).get(key)
            row = [label]
            for p in names:
                v = r.get(p, {})
                if "error" in v:
                    row.append("error")
                elif v.get(key) is None:
                    row.append("")
                else:
                    row.append(num(v[key]) + (f" ({v[key] / b:.2f})" if b and p != base else ""))
            rows.append(row)
    return table([f"ns/op (ratio to {base})"] + names, rows)


def server_table(r, peers, base, idle):
    rows = []
    if idle:
        for p in peers:
            if p in r:
                v = r[p]
                rows.append(
                    [p, "error: " + v["error"]] + [""] * 4
                    if "error" in v
                    else [
                        p,
                        num(v["rss_bytes_per_conn"]),
                        num(v["server_rss_before_kib"]),
                        num(v["server_rss_kib"]),
                        num(v["idle_cpu_us_per_s"]),
                        num(v["connect_cpu_us"]),
                    ]
                )
        return table(
            ["peer", "RSS bytes/conn", "RSS empty KiB", "RSS full KiB", "idle CPU µs/s", "CPU µs per connect+1 echo"],
            rows,
        )
    b = r.get(base, {}).get("server_cpu_us_per_req")
    bmin = r.get(base, {}).get("server_cpu_us_per_req_min")
    for p in peers:
        if p not in r:
            continue
        v = r[p]
        if "error" in v:
            rows.append([p, "error: " + v["error"]] + [""] * 10)
            continue
        c = v["server_cpu_us_per_req"]
        rows.append(
            [
                p,
                f"{c:.2f}",
                f"{c / b:.2f}" if b else "-",
                f"{v['server_cpu_us_per_req_min'] / bmin:.2f}" if b else "-",
                f"{v['server_cpu_us_per_req_min']:.2f}..{v['server_cpu_us_per_req_max']:.2f}",
                num(v["rps"]),
                num(v["p50_us"]),
                num(v["p99_us"]),
                num(v["p999_us"]),
                num(v.get("server_syscalls_per_req")),
                num(v["server_ctxsw_per_req"]),
                num(v["server_util"]),
            ]
        )
    return table(
        [
            "peer",
            "CPU µs/req",
            f"ratio to {base}",
            "ratio of minima",
            "min..max",
            "req/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "syscalls/req",
            "ctxsw/req",
            "server util",
        ],
        rows,
    )


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument(
        "what", choices=["list", "micro", "echo", "tls-echo", "echo-unix", "udp-echo", "accept", "http", "idle", "all", "servers"]
    )
    ap.add_argument("--peers")
    ap.add_argument("--workloads")
    ap.add_argument("--n", type=int)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--base", default="tokio")
    ap.add_argument("--conns")
    ap.add_argument("--size")
    ap.add_argument("--depth", default="1")
    ap.add_argument("--secs", type=float, default=0.5)
    ap.add_argument("--warmup", type=float, default=0.25)
    ap.add_argument("--buf", type=int, default=65536)
    ap.add_argument("--json")
    ap.add_argument("--md")
    ap.add_argument("--merge", action="store_true", help="keep what an existing --json file has and isn't run now")
    ap.add_argument("--extra", action="append", default=[], help="command of a contestant outside of this package")
    a = ap.parse_args()

    peers = discover(a.extra)
    if a.peers:
        unknown = set(a.peers.split(",")) - set(peers)
        if unknown:
            sys.exit(f"unknown peers {unknown}; there are {list(peers)}")
        peers = {p: peers[p] for p in a.peers.split(",")}
    if a.what == "list":
        for n, p in peers.items():
            print(f"{n}: {' '.join(p['cmd'])}\n   micro: {' '.join(p['micro'])}\n   serve: {' '.join(p['serve'])}")
        return

    ints = lambda s, d: [int(x) for x in (s or d).split(",")]
    jobs = []  # (section, key, cfg)
    if a.what in ("micro", "all"):
        seen = []
        for p in peers.values():
            seen += [w for w in p["micro"] if w not in seen]
        wanted = a.workloads.split(",") if a.workloads else seen
        jobs += [("micro", w, None) for w in wanted]

    def server_jobs(kind, conns, sizes, depths):
        for d in depths:
            for c in conns:
                for s in sizes:
                    cfg = {"conns": c, "depth": d}
                    if kind not in ("http", "accept"):
                        cfg["size"] = s
                    jobs.append((kind, " ".join(f"{k}={v}" for k, v in cfg.items()), cfg))

    if a.what in ("all", "servers"):
        server_jobs("echo", [1, 50, 1000], [64, 1024, 16384], [1])
        server_jobs("echo", [50], [64], [16])
        server_jobs("tls-echo", [50], [1024, 16384], [1])
        server_jobs("echo-unix", [50], [1024], [1])
        server_jobs("udp-echo", [50], [64], [1])
        server_jobs("accept", [50], [0], [1])
        server_jobs("http", [1, 50], [0], [1])
        jobs.append(("idle", "conns=10000", {"conns": 10000, "idle": True}))
    elif a.what == "idle":
        jobs += [("idle", f"conns={c}", {"conns": c, "idle": True}) for c in ints(a.conns, "10000")]
    elif a.what == "http" or a.what == "accept":
        server_jobs(a.what, ints(a.conns, "50"), [0], ints(a.depth, "1"))
    elif a.what != "micro":
        server_jobs(a.what, ints(a.conns, "1,50,1000"), ints(a.size, "64,1024,16384"), ints(a.depth, "1"))

    raw = {}
    started = time.time()
    for rnd in range(a.rounds):
        for section, key, cfg in jobs:
            # interleaved, each time in another order: who ran just before matters
            order = list(peers.items())
            random.Random(f"{rnd} {section} {key}").shuffle(order)
            for name, p in order:
                kind = "echo" if section == "idle" else section
                if section == "micro":
                    if key not in p["micro"]:
                        continue
                    s = run_micro(p, key, a.n)
                else:
                    if kind not in p["serve"]:
                        continue
                    s = run_server(p, kind, cfg, a)
                if "error" in s:
                    print(f"\n{name} {section} {key}: {s['error']}", file=sys.stderr)
                raw.setdefault(section, {}).setdefault(key, {}).setdefault(name, []).append(s)
            print(
                f"\rround {rnd + 1}/{a.rounds} {section} {key}  {time.time() - started:.0f} s      ",
                end="",
                file=sys.stderr,
                flush=True,
            )
    print(file=sys.stderr)

    if a.merge and a.json and os.path.exists(a.json):
        with open(a.json) as file:
            old = json.load(file)["samples"]
        for section, ks in raw.items():
            old[section] = {**old.get(section, {}), **ks}
        raw = old
    med = {s: {k: {n: median(v) for n, v in r.items()} for k, r in ks.items()} for s, ks in raw.items()}
    text = []
    for section, ks in med.items():
        if section == "micro":
            text += ["## micro", micro_table(ks, peers, a.base)]
            continue
        for key, r in ks.items():
            text += [f"## {section} {key}", server_table(r, peers, a.base, section == "idle")]
    text = "\n\n".join(text) + "\n"
    print(text)
    if a.md:
        with open(a.md, "w") as file:
            file.write(text)
    if a.json:
        os.makedirs(os.path.dirname(os.path.abspath(a.json)), exist_ok=True)
        meta = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kernel": os.uname().release,
            "cpus": os.cpu_count(),
            "rounds": a.rounds,
            "secs": a.secs,
            "warmup": a.warmup,
            "buf": a.buf,
            "base": a.base,
            "took_s": round(time.time() - started),
            "rustc": subprocess.run(["rustc", "-V"], capture_output=True, text=True).stdout.strip(),
            "argv": sys.argv[1:],
        }
        with open(a.json, "w") as file:
            json.dump({"meta": meta, "median": med, "samples": raw}, file, indent=1)


main()
