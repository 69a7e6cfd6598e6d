"""Sockets used directly, and readers that are replaced."""

import asyncio
import socket

from .support import connected, describe, keep, received, scenario, settle, socket_pair, tcp_pair, turns


async def outcome(trace, what, operation):
    """Awaits an operation and says what came of it."""
    try:
        result = await operation
    except asyncio.CancelledError:
        trace(what, "cancelled")
    except ConnectionRefusedError:
        trace(what, "refused")
    except (OSError, ValueError):
        trace(what, "error")
    else:
        trace(what, describe(result) if isinstance(result, bytes) else "done")


def listening():
    (listener,) = keep(socket.create_server(("127.0.0.1", 0)))
    return listener, listener.getsockname()


def fresh():
    (sock,) = keep(socket.socket())
    return sock


@connected
async def sock_echo(loop, trace):
    listener, address = listening()

    async def serve():
        connection, peer = await loop.sock_accept(listener)
        keep(connection)
        heard = []
        while data := await loop.sock_recv(connection, 3):
            heard.append(describe(data))
            await loop.sock_sendall(connection, data.upper())
        connection.close()
        return heard, peer

    server = loop.create_task(serve())
    client = fresh()
    await outcome(trace, "connect", loop.sock_connect(client, address))
    for text in (b"ab", b"abcdefg", b"z"):
        await outcome(trace, "send", loop.sock_sendall(client, text))
        got = b""
        while len(got) < len(text):
            got += await loop.sock_recv(client, 100)
        trace("back", describe(got))
    client.shutdown(socket.SHUT_WR)
    await outcome(trace, "end", loop.sock_recv(client, 100))
    heard, peer = await server
    trace("heard", *heard)
    trace.yes("peer", peer == client.getsockname())


@connected
async def sock_both_ways_at_once(loop, trace):
    own, peer = tcp_pair()
    count = 1 << 20

    async def echo():
        total = 0
        while total < count:
            data = await loop.sock_recv(peer, 65536)
            total += len(data)
            await loop.sock_sendall(peer, data)
        return total

    echoing = loop.create_task(echo())
    sending = loop.create_task(loop.sock_sendall(own, b"x" * count))
    total, buffer = 0, bytearray(50000)
    while total < count:
        total += await loop.sock_recv_into(own, buffer)
    await sending
    trace("received", total, "echoed", await echoing)


@connected
async def sock_recv_cancelled_and_retried(loop, trace):
    for pair in (socket_pair, tcp_pair):
        own, peer = pair()
        task = loop.create_task(loop.sock_recv(own, 100))
        await settle()
        trace.yes("done", task.done())
        task.cancel()
        await outcome(trace, "first", task)
        peer.send(b"one")
        await outcome(trace, "second", loop.sock_recv(own, 100))
        # Cancelled when there is something, before it was received.
        task = loop.create_task(loop.sock_recv(own, 100))
        await settle()
        peer.send(b"two")
        task.cancel()
        await outcome(trace, "third", task)
        await outcome(trace, "fourth", loop.sock_recv(own, 100))
        trace.yes("watched", loop.remove_reader(own))


@connected
async def sock_recv_of_a_new_task_while_an_old_one_ends(loop, trace):
    own, peer = socket_pair()
    old = loop.create_task(loop.sock_recv(own, 100))
    await settle()
    old.cancel()
    new = loop.create_task(loop.sock_recv(own, 100))
    await settle()
    trace.yes("old", old.cancelled())
    trace.yes("new", new.done())
    peer.send(b"data")
    await outcome(trace, "new", new)


@connected
async def sock_recv_right_after_a_cancellation(loop, trace):
    own, peer = socket_pair()
    old = loop.create_task(loop.sock_recv(own, 100))
    await settle()
    old.cancel()
    loop.call_later(0, peer.send, b"data")
    await outcome(trace, "new", loop.sock_recv(own, 100))
    await outcome(trace, "old", old)


@connected
async def sock_sendall_cancelled(loop, trace):
    own, peer = socket_pair()
    task = loop.create_task(loop.sock_sendall(own, b"0" * (16 << 20)))
    await settle()
    trace.yes("done", task.done())
    task.cancel()
    await outcome(trace, "first", task)
    second = loop.create_task(loop.sock_sendall(own, b"second"))
    data = b""
    while not data.endswith(b"second"):
        data += await loop.sock_recv(peer, 1 << 20)
    await outcome(trace, "second", second)
    trace.yes("a part of the first before it", set(data[:-6]) == {ord("0")})


@connected
async def sock_connect_refused(loop, trace):
    (closed,) = keep(socket.socket())
    closed.bind(("127.0.0.1", 0))
    address = closed.getsockname()
    client = fresh()
    await outcome(trace, "connect", loop.sock_connect(client, address))
    try:
        await loop.sock_connect(fresh(), address)
    except OSError as error:
        trace.yes("named", str(address[1]) in str(error))
    trace.yes("watched", loop.remove_writer(client))


@connected
async def sock_connect_by_name(loop, trace):
    listener, (_, port) = listening()
    client = fresh()
    await outcome(trace, "connect", loop.sock_connect(client, ("localhost", port)))
    trace.yes("there", client.getpeername() == listener.getsockname())


@connected
async def sock_accept_cancelled(loop, trace):
    listener, address = listening()
    task = loop.create_task(loop.sock_accept(listener))
    await settle()
    task.cancel()
    await outcome(trace, "accept", task)
    listener.close()
    await outcome(trace, "connect", loop.sock_connect(fresh(), address))


@connected
async def sock_datagrams(loop, trace):
    own, peer = keep(*(socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)))
    for one in (own, peer):
        one.bind(("127.0.0.1", 0))
    for text in (b"one", b"", b"a long one"):
        sent = await loop.sock_sendto(own, text, peer.getsockname())
        data, sender = await loop.sock_recvfrom(peer, 6)
        trace(sent, describe(data))
        trace.yes("sender", sender == own.getsockname())
    buffer = bytearray(b"------")
    await loop.sock_sendto(own, b"into", peer.getsockname())
    count, _ = await loop.sock_recvfrom_into(peer, memoryview(buffer)[:2], 2)
    trace(count, describe(bytes(buffer)))


@connected
async def sock_that_blocks(loop, trace):
    own, _ = socket_pair()
    own.setblocking(True)
    loop.set_debug(True)
    await outcome(trace, "recv", loop.sock_recv(own, 1))
    await outcome(trace, "sendall", loop.sock_sendall(own, b"x"))
    await outcome(trace, "accept", loop.sock_accept(own))
    loop.set_debug(False)


@scenario
def reader_of_another_replaced_while_ready(loop, trace):
    first, first_peer = socket_pair()
    second, second_peer = socket_pair()

    def read():
        trace("first", received(first))
        loop.add_reader(second, lambda: trace("new", received(second)))

    loop.add_reader(first, read)
    loop.add_reader(second, trace, "old")
    turns(loop, trace, 1)
    first_peer.send(b"1")
    second_peer.send(b"2")
    turns(loop, trace, 2)
    trace.yes("first removed", loop.remove_reader(first))
    trace.yes("second removed", loop.remove_reader(second))


@scenario
def reader_replaced_beside_a_writer(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")

    def write():
        trace("writer")
        loop.remove_writer(own)

    loop.add_reader(own, trace, "old")
    loop.add_writer(own, write)
    loop.call_soon(lambda: loop.add_reader(own, lambda: trace("new", received(own))))
    turns(loop, trace, 3)
    trace.yes("reader removed", loop.remove_reader(own))
    trace.yes("writer removed", loop.remove_writer(own))
