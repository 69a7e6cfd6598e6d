"""Flow control of TLS, in both directions."""

from .support import secure, settle
from .tls_peer import TlsPeer, connect, connecting, outcome

MEGABYTE = b"x" * 1_000_000


def write_much(transport):
    """So that writing is paused, and was not by the first half."""
    transport.write(MEGABYTE[:600_000])
    transport.write(MEGABYTE[:600_000])


def limits(trace, transport):
    trace("limits", *transport.get_write_buffer_limits())


@secure
async def tls_marks_as_told(loop, trace):
    transport, _ = await connect(loop, trace)
    limits(trace, transport)
    for high, low in ((100, 10), (100, None), (None, 100), (7, 7), (None, None)):
        transport.set_write_buffer_limits(high, low)
        limits(trace, transport)
    try:
        transport.set_write_buffer_limits(10, 100)
    except ValueError:
        trace("refused")
    limits(trace, transport)
    await settle()


@secure
async def tls_pause_and_resume(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server)
        for _ in range(2):
            trace("first")
            transport.write(MEGABYTE[:600_000])
            await settle()
            trace("second")
            transport.write(MEGABYTE[:600_000])
            await settle()
            trace("drained")
            trace("peer", await peer.collect())
            trace("size", transport.get_write_buffer_size())


@secure
async def tls_much_in_one_write(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(5 * MEGABYTE)
    trace.yes("queued", transport.get_write_buffer_size() > 0)
    await settle()
    trace("peer", await peer.collect())
    trace("size", transport.get_write_buffer_size())


@secure
async def tls_written_when_resumed(loop, trace):
    left = [2, 2]

    def resume(transport):
        for _ in range(left.pop() if left else 0):
            transport.write(2 * MEGABYTE)

    transport, peer = await connect(loop, trace, resume=resume)
    transport.write(2 * MEGABYTE)
    transport.write(2 * MEGABYTE)
    await settle()
    trace("peer", await peer.collect())


@secure
async def tls_closed_while_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    write_much(transport)
    await settle()
    transport.close()
    await settle()
    trace("peer", await peer.collect())
    peer.goodbye()
    await settle()


@secure
async def tls_closed_when_resumed(loop, trace):
    for step in ("close", "abort"):
        transport, peer = await connect(loop, trace, resume=lambda transport: getattr(transport, step)())
        write_much(transport)
        await settle()
        total = await peer.collect()
        if step == "close":
            trace("peer", total)
        peer.goodbye()
        await settle()
        trace("peer", peer.received())


@secure
async def tls_aborted_while_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    write_much(transport)
    await settle()
    transport.abort()
    await settle()
    trace("size", transport.get_write_buffer_size())


@secure
async def tls_peer_goes_while_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    write_much(transport)
    await settle()
    peer.close()
    await settle()
    trace("size", transport.get_write_buffer_size())


@secure
async def tls_reading_while_writing_is_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    write_much(transport)
    await settle()
    peer.send(b"hello")
    await settle()
    trace("peer", await peer.collect())


@secure
async def tls_reading_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    trace.yes("reading", transport.is_reading())
    transport.pause_reading()
    trace.yes("reading", transport.is_reading())
    peer.send(b"one ")
    await settle()
    peer.send(b"two")
    await settle()
    trace("resume")
    transport.resume_reading()
    trace.yes("reading", transport.is_reading())
    await settle()
    peer.send(b"three")
    await settle()


@secure
async def tls_reading_paused_in_a_callback(loop, trace):
    def data(transport, _):
        transport.pause_reading()
        loop.call_soon(transport.resume_reading)

    transport, peer = await connect(loop, trace, data=data)
    peer.send(b"one")
    await settle()
    peer.send(b"two")
    await settle()


@secure
async def tls_paused_as_it_is_made(loop, trace):
    transport, peer = await connect(loop, trace, server=True, made=lambda transport: transport.pause_reading())
    peer.send(b"hello")
    await settle()
    trace("resume")
    transport.resume_reading()
    await settle()


@secure
async def tls_client_paused_as_it_is_made(loop, trace):
    """The last word of the handshake is its own."""
    task, sock = await connecting(loop, trace, made=lambda transport: transport.pause_reading())
    peer = TlsPeer(sock, server=True)
    trace("peer", await peer.handshake())
    await outcome(trace, task)


@secure
async def tls_peer_is_held_up(loop, trace):
    """What nobody reads stops the peer."""
    transport, peer = await connect(loop, trace, total=True)
    transport.pause_reading()
    sent = 0
    try:
        while sent < 100:
            peer.send(MEGABYTE[:10_000])
            sent += 1
            await settle()
    except BlockingIOError:
        sent += 1
    trace.yes("held up", sent < 100)
