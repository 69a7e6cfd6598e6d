"""Reading: pauses, resets, buffers of a protocol's own."""

import asyncio

from .support import connect, connected, error_kind, reset, settle, socket_pair, tcp_pair, trace_reports


@connected
async def peer_resets(loop, trace):
    lost = loop.create_future()
    transport, peer = await connect(loop, trace, sockets=tcp_pair(), lost=lambda transport: lost.set_result(None))
    reset(peer)
    await lost
    transport.write(b"too late")
    await settle()


@connected
async def peer_resets_after_data(loop, trace):
    lost = loop.create_future()
    told = loop.create_future()
    transport, peer = await connect(
        loop,
        trace,
        sockets=tcp_pair(),
        data=lambda transport, data: told.set_result(None),
        lost=lambda transport: lost.set_result(None),
    )
    peer.send(b"data")
    await told
    reset(peer)
    await lost


@connected
async def write_to_a_peer_that_is_gone(loop, trace):
    own, peer = socket_pair()
    transport, peer = await connect(
        loop, trace, sockets=(own, peer), made=lambda transport: (transport.pause_reading(), peer.close())
    )
    await settle()
    transport.write(b"nobody reads this")
    trace.yes("closing", transport.is_closing())
    transport.write(b"nor this")
    await settle()


@connected
async def paused_from_the_start(loop, trace):
    own, peer = socket_pair()
    peer.send(b"early")
    transport, peer = await connect(
        loop, trace, sockets=(own, peer), made=lambda transport: transport.pause_reading()
    )
    await settle()
    trace.yes("reading", transport.is_reading())
    peer.send(b" and late")
    await settle()
    trace("resume")
    transport.resume_reading()
    trace.yes("reading", transport.is_reading())
    await settle()


@connected
async def paused_while_the_peer_closes(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.pause_reading()
    peer.send(b"last words")
    peer.close()
    await settle()
    trace("resume")
    transport.resume_reading()
    await settle()


@connected
async def paused_while_the_peer_resets(loop, trace):
    lost = loop.create_future()
    transport, peer = await connect(loop, trace, sockets=tcp_pair(), lost=lambda transport: lost.set_result(None))
    transport.pause_reading()
    reset(peer)
    await settle()
    trace("resume")
    transport.resume_reading()
    await lost


@connected
async def paused_by_data(loop, trace):
    transport, peer = await connect(loop, trace, data=lambda transport, data: transport.pause_reading())
    for text in (b"one", b"two", b"three"):
        peer.send(text)
        await settle()
    for _ in range(2):
        trace("resume")
        transport.resume_reading()
        await settle()


@connected
async def paused_and_resumed_at_once(loop, trace):
    def data(transport, data):
        transport.pause_reading()
        transport.pause_reading()
        trace.yes("reading", transport.is_reading())
        transport.resume_reading()
        transport.resume_reading()
        trace.yes("reading", transport.is_reading())

    transport, peer = await connect(loop, trace, data=data)
    for text in (b"one", b"two"):
        peer.send(text)
        await settle()
    transport.close()
    trace.yes("reading", transport.is_reading())
    transport.resume_reading()
    transport.pause_reading()
    trace.yes("reading", transport.is_reading())
    await settle()


@connected
async def paused_and_closed(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.pause_reading()
    peer.send(b"unheard")
    transport.close()
    transport.resume_reading()
    await settle()
    transport.resume_reading()
    await settle()


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, trace, size):
        self.trace = trace
        self.buffer = bytearray(size)

    def connection_made(self, transport):
        self.trace("made")

    def get_buffer(self, size_hint):
        return self.buffer

    def buffer_updated(self, count):
        self.trace("updated", bytes(self.buffer[:count]).decode())

    def eof_received(self):
        self.trace("eof")

    def connection_lost(self, error):
        self.trace("lost", error_kind(error))


@connected
async def buffered_protocol(loop, trace):
    own, peer = socket_pair()
    await loop.create_connection(lambda: Buffered(trace, 4), sock=own)
    for text in (b"ab", b"cdefghijkl", b"mnop"):
        peer.send(text)
        await settle()
    peer.close()
    await settle()


@connected
async def buffer_without_room(loop, trace):
    trace_reports(loop, trace)
    own, peer = socket_pair()
    await loop.create_connection(lambda: Buffered(trace, 0), sock=own)
    peer.send(b"x")
    await settle()


@connected
async def paused_by_data_with_the_end_waiting(loop, trace):
    transport, peer = await connect(loop, trace, data=lambda transport, data: transport.pause_reading())
    peer.send(b"last words")
    peer.close()
    await settle()
    trace("resume")
    transport.resume_reading()
    await settle()


@connected
async def resumed_among_callbacks(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.pause_reading()
    peer.send(b"data")
    await settle()
    loop.call_soon(trace, "before")
    transport.resume_reading()
    loop.call_soon(trace, "after")
    loop.call_at(loop.time() - 1, trace, "timer")
    await settle()


@connected
async def paused_by_another_in_one_turn(loop, trace):
    def data(transport, data):
        second.pause_reading()

    first, first_peer = await connect(loop, trace, name="first", data=data)
    second, second_peer = await connect(loop, trace, name="second")
    first_peer.send(b"x")
    second_peer.send(b"y")
    await settle()
    trace("resume")
    second.resume_reading()
    await settle()
