#!/usr/bin/env python3
"""asyncio and uvloop contestants; same command line as the Rust bins:

python_peer.py info
python_peer.py --peer asyncio|uvloop micro WORKLOAD [--n N]
python_peer.py --peer asyncio|uvloop echo|tls-echo|echo-unix|udp-echo [--port P] [--path P] [--cert FOLDER]
"""

import asyncio
import json
import os
import random
import resource
import socket
import ssl
import sys
import threading
import time

MICRO = {
    "spawn_join": 50_000,
    "spawn_detached_burst": 50_000,
    "spawn_await": 50_000,
    "yield": 200_000,
    "call_soon": 500_000,
    "pingpong": 50_000,
    "oneshot": 100_000,
    "timer_insert_drop": 200_000,
    "timer_fire": 100_000,
    "sleep_latency": 500,
    "cross_thread_wake": 10_000,
    "cross_thread_wake_idle": 5_000,
    "cross_thread_post": 100_000,
    "block_on_ready": 20_000,
    "runtime_new": 200,
}
SERVE = ["echo", "tls-echo", "echo-unix", "udp-echo"]


class Meter:
    def __init__(self, clock=time.process_time_ns):
        self.clock, self.t, self.c = clock, time.perf_counter_ns(), clock()

    def stop(self, n):
        return {
            "n": n,
            "ns_per_op": (time.perf_counter_ns() - self.t) / n,
            "cpu_ns_per_op": (self.clock() - self.c) / n,
        }


async def spawn_join(n):
    async def t(i):
        return i

    loop = asyncio.get_running_loop()
    m = Meter()
    ts = [loop.create_task(t(i)) for i in range(n)]
    s = 0
    for x in ts:
        s += await x
    r = m.stop(n)
    assert s == n * (n - 1) // 2
    return r


async def spawn_detached_burst(n):
    loop = asyncio.get_running_loop()
    fut = loop.create_future()
    left = n

    async def t():
        nonlocal left
        left -= 1
        if not left:
            fut.set_result(None)

    m = Meter()
    keep = [loop.create_task(t()) for _ in range(n)]
    await fut
    r = m.stop(n)
    del keep
    return r


async def spawn_await(n):
    async def t(i):
        return i

    loop = asyncio.get_running_loop()
    m = Meter()
    for i in range(n):
        assert await loop.create_task(t(i)) == i
    return m.stop(n)


async def yield_(n):
    each = n // 1000

    async def t():
        for _ in range(each):
            await asyncio.sleep(0)

    loop = asyncio.get_running_loop()
    m = Meter()
    await asyncio.gather(*[loop.create_task(t()) for _ in range(1000)])
    return m.stop(each * 1000)


async def call_soon(n):
    loop = asyncio.get_running_loop()
    fut = loop.create_future()
    left = n

    def cb():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(cb)
        else:
            fut.set_result(None)

    m = Meter()
    loop.call_soon(cb)
    await fut
    return m.stop(n)


async def pingpong(n):
    a, b = asyncio.Queue(), asyncio.Queue()

    async def peer():
        for _ in range(n):
            b.put_nowait(await a.get() + 1)

    t = asyncio.create_task(peer())
    m = Meter()
    for i in range(n):
        a.put_nowait(i)
        assert await b.get() == i + 1
    r = m.stop(n)
    await t
    return r


async def oneshot(n):
    loop = asyncio.get_running_loop()
    m = Meter()
    for i in range(n):
        f = loop.create_future()
        f.set_result(i)
        assert await f == i
    return m.stop(n)


async def timer_insert_drop(n):
    loop = asyncio.get_running_loop()
    rng = random.Random(42)
    alive = [loop.call_later(rng.uniform(10, 60), print) for _ in range(10_000)]
    delays = [rng.uniform(1, 60) for _ in range(n)]
    m = Meter()
    for i, d in enumerate(delays):
        loop.call_later(d, print).cancel()
        if i % 64 == 63:
            await asyncio.sleep(0)
    r = m.stop(n)
    for h in alive:
        h.cancel()
    return r


async def timer_fire(n):
    rng = random.Random(7)
    late = 0.0
    delays = [rng.uniform(1e-6, 0.2) for _ in range(n)]

    async def t(d):
        nonlocal late
        s = time.monotonic()
        await asyncio.sleep(d)
        late += time.monotonic() - s - d

    loop = asyncio.get_running_loop()
    m = Meter()
    await asyncio.gather(*[loop.create_task(t(d)) for d in delays])
    r = m.stop(n)
    r["late_mean_us"] = late / n * 1e6
    return r


async def sleep_latency(n):
    over = []
    m = Meter()
    for _ in range(n):
        s = time.perf_counter_ns()
        await asyncio.sleep(0.001)
        over.append(time.perf_counter_ns() - s - 1_000_000)
    r = m.stop(n)
    r["ns_per_op"] = sum(over) / n
    return r


async def cross_wake(n, idle):
    loop = asyncio.get_running_loop()
    ev = threading.Semaphore(0)
    box = {}

    def other():
        os.sched_setaffinity(0, {1})
        for _ in range(n):
            ev.acquire()
            if idle:
                time.sleep(0.0001)
            box["t"] = time.perf_counter_ns()
            loop.call_soon_threadsafe(box["f"].set_result, None)

    th = threading.Thread(target=other)
    th.start()
    lat = 0
    m = Meter(time.thread_time_ns)
    for _ in range(n):
        box["f"] = loop.create_future()
        ev.release()
        await box["f"]
        lat += time.perf_counter_ns() - box["t"]
    r = m.stop(n)
    th.join()
    if idle:
        r["ns_per_op"] = lat / n
    return r


async def cross_thread_post(n):
    loop = asyncio.get_running_loop()
    fut = loop.create_future()
    total = 0

    def job(i):
        nonlocal total
        total += i
        if i == n - 1:
            fut.set_result(None)

    def other():
        os.sched_setaffinity(0, {1})
        for i in range(n):
            loop.call_soon_threadsafe(job, i)

    m = Meter()
    th = threading.Thread(target=other)
    th.start()
    await fut
    r = m.stop(n)
    th.join()
    assert total == n * (n - 1) // 2
    return r


ASYNC = {
    "spawn_join": spawn_join,
    "spawn_detached_burst": spawn_detached_burst,
    "spawn_await": spawn_await,
    "yield": yield_,
    "call_soon": call_soon,
    "pingpong": pingpong,
    "oneshot": oneshot,
    "timer_insert_drop": timer_insert_drop,
    "timer_fire": timer_fire,
    "sleep_latency": sleep_latency,
    "cross_thread_wake": lambda n: cross_wake(n, False),
    "cross_thread_wake_idle": lambda n: cross_wake(n, True),
    "cross_thread_post": cross_thread_post,
}


def micro(new_loop, w, n):
    os.sched_setaffinity(0, {0})
    if w in ASYNC:
        loop = new_loop()
        asyncio.set_event_loop(loop)
        if w not in ("timer_fire", "sleep_latency"):
            loop.run_until_complete(ASYNC[w](max(n // 10, 1000)))
        return loop.run_until_complete(ASYNC[w](n))

    async def nothing(i):
        return i

    if w == "block_on_ready":
        loop = new_loop()
        m = Meter()
        for i in range(n):
            loop.run_until_complete(nothing(i))
        return m.stop(n)
    m = Meter()
    for i in range(n):
        loop = new_loop()
        loop.run_until_complete(nothing(i))
        loop.close()
    return m.stop(n)


class Echo(asyncio.Protocol):
    def connection_made(self, tr):
        self.tr = tr

    def data_received(self, data):
        self.tr.write(data)


class UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, tr):
        self.tr = tr

    def datagram_received(self, data, addr):
        self.tr.sendto(data, addr)


def serve(new_loop, kind, port, path, cert):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = new_loop()
    asyncio.set_event_loop(loop)
    if kind in ("echo", "tls-echo"):
        tls = None
        if kind == "tls-echo":
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(os.path.join(cert, "cert.pem"), os.path.join(cert, "key.pem"))
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if "ARENA_DEFAULT_CC" not in os.environ:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        s.bind(("127.0.0.1", port))
        keep = loop.run_until_complete(loop.create_server(Echo, sock=s, backlog=4096, ssl=tls))
    elif kind == "echo-unix":
        if os.path.exists(path):
            os.unlink(path)
        keep = loop.run_until_complete(loop.create_unix_server(Echo, path, backlog=4096))
    else:
        keep = loop.run_until_complete(loop.create_datagram_endpoint(UdpEcho, ("127.0.0.1", port)))
    print("READY", flush=True)
    loop.run_forever()
    del keep


def main():
    pos, opts, a = [], {}, sys.argv[1:]
    while a:
        x = a.pop(0)
        if x.startswith("--"):
            opts[x[2:]] = a.pop(0)
        else:
            pos.append(x)
    if not pos or pos[0] == "info":
        peers = [{"name": "asyncio", "micro": list(MICRO), "serve": SERVE}]
        try:
            import uvloop

            peers.append({"name": "uvloop", "micro": list(MICRO), "serve": SERVE})
        except ImportError:
            pass
        print(json.dumps({"peers": peers}))
        return
    peer = opts.get("peer", "asyncio")
    if peer == "uvloop":
        import uvloop

        new_loop = uvloop.new_event_loop
    else:
        new_loop = asyncio.new_event_loop
    if pos[0] == "micro":
        r = micro(new_loop, pos[1], int(opts.get("n", MICRO[pos[1]])))
        print(json.dumps({"peer": peer, "workload": pos[1], **r}))
    else:
        serve(new_loop, pos[0], int(opts.get("port", 7777)), opts.get("path", "/tmp/arena.sock"), opts.get("cert"))


main()
