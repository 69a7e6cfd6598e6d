"""Streams: readers, writers."""

import asyncio
import socket

from .support import (
    collect,
    connected,
    describe,
    receive,
    received,
    reset,
    scenario,
    settle,
    socket_pair,
    tcp_pair,
    turns,
)


async def attempt(trace, what, reading):
    """Awaits a read and says what came of it."""
    try:
        trace(what, describe(await reading))
    except asyncio.IncompleteReadError as error:
        trace(what, "incomplete", describe(error.partial), error.expected)
    except asyncio.LimitOverrunError as error:
        trace(what, "overrun", error.consumed)
    except ValueError:
        trace(what, "overrun")
    except OSError:
        trace(what, "error")


async def open_stream(limit=65536):
    own, peer = socket_pair()
    reader, writer = await asyncio.open_connection(sock=own, limit=limit)
    return reader, writer, peer


def send_in_turns(loop, peer, pieces):
    """Sends pieces, one a turn, and the end."""
    if pieces:
        peer.send(pieces[0])
        loop.call_soon(send_in_turns, loop, peer, pieces[1:])
    else:
        peer.shutdown(socket.SHUT_WR)


@connected
async def lines(loop, trace):
    reader = asyncio.StreamReader(limit=100, loop=loop)
    reader.feed_data(b"one\ntwo\n\nthree")
    for _ in range(3):
        await attempt(trace, "line", reader.readline())
    trace.yes("at eof", reader.at_eof())
    reader.feed_eof()
    trace.yes("at eof", reader.at_eof())
    await attempt(trace, "line", reader.readline())
    await attempt(trace, "line", reader.readline())
    trace.yes("at eof", reader.at_eof())


@connected
async def pieces(loop, trace):
    reader = asyncio.StreamReader(limit=100, loop=loop)
    reader.feed_data(b"0123456789")
    await attempt(trace, "exactly", reader.readexactly(3))
    await attempt(trace, "exactly", reader.readexactly(0))
    await attempt(trace, "read", reader.read(0))
    await attempt(trace, "read", reader.read(2))
    await attempt(trace, "read", reader.read(100))
    reader.feed_data(b"abc")
    reader.feed_eof()
    await attempt(trace, "exactly", reader.readexactly(5))
    await attempt(trace, "exactly", reader.readexactly(1))
    await attempt(trace, "read", reader.read(1))


@connected
async def rest(loop, trace):
    reader = asyncio.StreamReader(limit=100, loop=loop)
    reader.feed_data(b"0123456789")
    reader.feed_eof()
    await attempt(trace, "rest", reader.read(-1))
    await attempt(trace, "rest", reader.read(-1))
    reader, writer, peer = await open_stream(limit=3)
    send_in_turns(loop, peer, [b"01234567", b"89", b"abcdefgh"])
    await attempt(trace, "rest", reader.read(-1))
    await attempt(trace, "rest", reader.read(-1))
    writer.close()
    await writer.wait_closed()


@connected
async def separators(loop, trace):
    reader = asyncio.StreamReader(limit=100, loop=loop)
    reader.feed_data(b"a--b-c---d-")
    for _ in range(2):
        await attempt(trace, "until", reader.readuntil(b"--"))
    reader.feed_data(b"-e-")
    await attempt(trace, "until", reader.readuntil(b"--"))
    reader.feed_eof()
    await attempt(trace, "until", reader.readuntil(b"--"))
    await attempt(trace, "until", reader.readuntil(b"--"))


@connected
async def separator_in_parts(loop, trace):
    reader, writer, peer = await open_stream()
    send_in_turns(loop, peer, [b"abc<en<e", b"nd", b">rest"])
    await attempt(trace, "until", reader.readuntil(b"<end>"))
    await attempt(trace, "exactly", reader.readexactly(4))
    await attempt(trace, "until", reader.readuntil(b"<end>"))
    writer.close()
    await writer.wait_closed()


@connected
async def limits_of_readuntil(loop, trace):
    for fed in (b"0123456789;", b"0123456789a;", b"0123456789", b"0123456789a", b"0123456789abc"):
        reader = asyncio.StreamReader(limit=10, loop=loop)
        reader.feed_data(fed)
        reader.feed_eof()
        await attempt(trace, fed.decode(), reader.readuntil(b";"))
        await attempt(trace, "then", reader.read(100))
    for fed in (b"012345678<>", b"0123456789<>", b"0123456789a<>", b"0123456789a", b"0123456789ab"):
        reader = asyncio.StreamReader(limit=10, loop=loop)
        reader.feed_data(fed)
        reader.feed_eof()
        await attempt(trace, fed.decode(), reader.readuntil(b"<>"))
        await attempt(trace, "then", reader.read(100))


@connected
async def limits_of_readline(loop, trace):
    for fed in (b"0123456789\nnext\n", b"0123456789a\nnext\n", b"0123456789abc"):
        reader = asyncio.StreamReader(limit=10, loop=loop)
        reader.feed_data(fed)
        reader.feed_eof()
        await attempt(trace, "line", reader.readline())
        await attempt(trace, "then", reader.read(100))


@scenario
def reader_wakes_in_the_next_turn(loop, trace):
    async def read(reader):
        trace("waits")
        await attempt(trace, "line", reader.readline())
        await attempt(trace, "line", reader.readline())

    reader, writer, peer = loop.run_until_complete(open_stream())
    task = loop.create_task(read(reader))
    turns(loop, trace, 1)
    peer.send(b"one\ntwo\n")
    loop.call_soon(lambda: (trace("before"), loop.call_soon(trace, "next turn, first")))
    loop.call_at(loop.time() - 1, lambda: (trace("after"), loop.call_soon(trace, "next turn, last")))
    turns(loop, trace, 2)
    trace.yes("done", task.done())


@connected
async def error_of_a_reader(loop, trace):
    reader = asyncio.StreamReader(limit=100, loop=loop)
    reader.feed_data(b"data")
    reader.set_exception(ConnectionResetError())
    await attempt(trace, "exactly", reader.readexactly(2))
    await attempt(trace, "read", reader.read(1))
    await attempt(trace, "line", reader.readline())


@connected
async def reset_of_a_stream(loop, trace):
    own, peer = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=own)
    peer.send(b"data")
    await attempt(trace, "exactly", reader.readexactly(2))
    task = loop.create_task(attempt(trace, "exactly", reader.readexactly(10)))
    await settle()
    reset(peer)
    await task
    await attempt(trace, "read", reader.read(1))
    trace.yes("closing", writer.is_closing())
    try:
        await writer.drain()
    except OSError:
        trace("drain error")
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        trace("wait_closed error")


@connected
async def reader_pauses_its_transport(loop, trace):
    reader, writer, peer = await open_stream(limit=10)
    transport = writer.transport
    for count in (20, 1, 1):
        peer.send(b"x" * count)
        await settle()
        trace.yes("reading", transport.is_reading())
    for count in (10, 1, 1):
        await attempt(trace, "read", reader.read(count))
        trace.yes("reading", transport.is_reading())
    await settle()
    await attempt(trace, "read", reader.read(100))
    peer.send(b"x" * 50)
    await settle()
    trace.yes("reading", transport.is_reading())
    await attempt(trace, "exactly", reader.readexactly(40))
    trace.yes("reading", transport.is_reading())
    writer.close()
    await writer.wait_closed()


@connected
async def more_than_the_limit_exactly(loop, trace):
    reader, writer, peer = await open_stream(limit=10)
    peer.send(b"x" * 30)
    await settle()
    task = loop.create_task(attempt(trace, "exactly", reader.readexactly(35)))
    await settle()
    peer.send(b"y" * 30)
    await task
    await settle()
    await attempt(trace, "read", reader.read(100))
    writer.close()
    await writer.wait_closed()


@connected
async def end_of_a_stream(loop, trace):
    reader, writer, peer = await open_stream()
    peer.send(b"last")
    peer.shutdown(1)
    await settle()
    trace.yes("at eof", reader.at_eof())
    await attempt(trace, "read", reader.read(100))
    trace.yes("at eof", reader.at_eof())
    await attempt(trace, "read", reader.read(100))
    trace.yes("closing", writer.is_closing())
    writer.write(b"answer")
    await writer.drain()
    trace(received(peer))
    writer.close()
    trace.yes("closing", writer.is_closing())
    await writer.wait_closed()
    trace("closed")
    trace(received(peer))


@connected
async def close_wakes_a_reader(loop, trace):
    reader, writer, peer = await open_stream()
    task = loop.create_task(attempt(trace, "read", reader.read(100)))
    await settle()
    writer.close()
    loop.call_soon(trace, "soon")
    await task
    await writer.wait_closed()
    trace("closed")


@connected
async def drain_takes_no_turn(loop, trace):
    reader, writer, peer = await open_stream()
    loop.call_soon(trace, "soon")
    writer.write(b"small")
    await writer.drain()
    trace("drained")
    await settle()
    writer.close()
    loop.call_soon(trace, "soon too")
    try:
        await writer.drain()
        trace("drained")
    except OSError:
        trace("error")
    await writer.wait_closed()


@connected
async def drains_in_order(loop, trace):
    reader, writer, peer = await open_stream()
    writer.write(b"x" * 1000000)

    async def drain(name):
        trace(name, "waits")
        await writer.drain()
        trace(name, "goes on", writer.transport.get_write_buffer_size())

    tasks = [loop.create_task(drain(name)) for name in "xyz"]
    await settle()
    trace(await collect(peer))
    for task in tasks:
        await task
    writer.close()
    await writer.wait_closed()


@connected
async def drain_of_a_lost_connection(loop, trace):
    reader, writer, peer = await open_stream()
    writer.write(b"x" * 1000000)

    async def drain(name):
        try:
            await writer.drain()
            trace(name, "drained")
        except OSError:
            trace(name, "error")

    task = loop.create_task(drain("waiting"))
    await settle()
    writer.transport.abort()
    loop.call_soon(trace, "soon")
    await task
    await drain("late")


@connected
async def flush_before_close(loop, trace):
    reader, writer, peer = await open_stream()
    writer.write(b"x" * 1000000)
    writer.close()
    total = 0
    closing = loop.create_task(writer.wait_closed())
    while not closing.done():
        data, end = receive(peer)
        total += len(data)
        await settle()
    trace("closed")
    data, end = receive(peer)
    trace(f"{total + len(data)} bytes{end}")
