"""How TLS connections end."""

import asyncio
import socket

from .support import reset, secure, settle, socket_pair, tcp_pair
from .tls_peer import NAME, Recorder, client_context, connect, server_context

MEGABYTE = b"x" * 1_000_000


@secure
async def tls_closed_by_this_side(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server)
        transport.write(b"last words")
        transport.close()
        trace.yes("closing", transport.is_closing())
        transport.close()
        await settle()
        trace("peer", peer.received())
        peer.goodbye()
        await settle()
        trace("peer", peer.received())


@secure
async def tls_closed_by_the_peer(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server)
        peer.send(b"last words")
        peer.goodbye()
        await settle()
        trace.yes("closing", transport.is_closing())
        trace("peer", peer.received())


@secure
async def tls_closed_by_both(loop, trace):
    transport, peer = await connect(loop, trace)
    peer.send(b"unheard")
    peer.goodbye()
    transport.write(b"last words")
    transport.close()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_closed_by_a_peer_that_goes(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.close()
    await settle()
    trace("peer", peer.received())
    peer.close()
    await settle()


@secure
async def tls_answer_to_the_end(loop, trace):
    answer = lambda transport: transport.write(b"goodbye")  # noqa: E731
    transport, peer = await connect(loop, trace, eof=answer)
    peer.goodbye()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_five_million_and_close(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server)
        transport.set_write_buffer_limits(1 << 30)
        transport.write(5 * MEGABYTE)
        transport.close()
        trace("peer", await peer.collect())
        peer.goodbye()
        await settle()
        trace("peer", peer.received())


@secure
async def tls_five_million_from_the_peer(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server, total=True)
        for _ in range(100):
            peer.send(MEGABYTE[:50_000])
            await settle()
        peer.goodbye()
        await settle()
        trace("peer", peer.received())


@secure
async def tls_five_million_both_in_the_loop(loop, trace):
    """The sender closes behind it; the other side answers nothing."""
    for sender in ("client", "server"):
        lines = {"client": [], "server": []}
        lost = {name: loop.create_future() for name in lines}
        transports = {}

        def recorder(name):
            def line(*parts):
                lines[name].append(" ".join(map(str, parts)))

            ended = lost[name]
            return Recorder(line, total=True, lost=lambda _: ended.set_result(None))

        one, other = socket_pair()
        settings = {"ssl": client_context(), "server_hostname": NAME}
        client = loop.create_connection(lambda: recorder("client"), sock=one, **settings)
        server = loop.connect_accepted_socket(lambda: recorder("server"), other, ssl=server_context())
        (transports["client"], _), (transports["server"], _) = await asyncio.gather(client, server)
        transport = transports[sender]
        transport.set_write_buffer_limits(1 << 30)
        transport.write(5 * MEGABYTE)
        transport.close()
        for ended in lost.values():
            await ended
        for name in lines:
            trace(name, ", ".join(lines[name]))


@secure
async def tls_aborted(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server, sockets=tcp_pair())
        transport.write(b"on its way")
        transport.abort()
        trace.yes("closing", transport.is_closing())
        transport.abort()
        transport.close()
        await settle()
        trace("peer", peer.received())


@secure
async def tls_aborted_with_a_queue(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.set_write_buffer_limits(1 << 30)
    transport.write(5 * MEGABYTE)
    transport.close()
    await settle()
    transport.abort()
    await settle()
    trace.yes("all of it", len(peer.receive()[0]) == 5_000_000)


@secure
async def tls_reset_by_the_peer(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server, sockets=tcp_pair())
        reset(peer.below.sock)
        await settle()
        trace.yes("closing", transport.is_closing())


@secure
async def tls_reset_while_closing(loop, trace):
    transport, peer = await connect(loop, trace, sockets=tcp_pair())
    transport.close()
    await settle()
    peer.received()
    reset(peer.below.sock)
    await settle()


@secure
async def tls_cut_off(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server)
        peer.send(b"last words")
        peer.close()
        await settle()
        trace.yes("closing", transport.is_closing())


@secure
async def tls_half_closed_below(loop, trace):
    transport, peer = await connect(loop, trace)
    peer.below.sock.shutdown(socket.SHUT_WR)
    await settle()
    trace.yes("closing", transport.is_closing())
    trace("peer", peer.received())


@secure
async def tls_kept_open(loop, trace):
    transport, peer = await connect(loop, trace, keep_open=True)
    peer.goodbye()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_half_close(loop, trace):
    loop.set_exception_handler(lambda loop, context: trace("refused"))
    transport, peer = await connect(loop, trace)
    trace.yes("can", transport.can_write_eof())
    try:
        transport.write_eof()
    except NotImplementedError:
        trace("refused")
    transport.write(b"goes on")
    await settle()
    trace("peer", peer.received())


@secure
async def tls_end_while_reading_is_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.pause_reading()
    peer.send(b"last words")
    peer.goodbye()
    peer.close()
    await settle()
    trace("resume")
    transport.resume_reading()
    await settle()


@secure
async def tls_cut_off_while_reading_is_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.pause_reading()
    peer.send(b"last words")
    peer.close()
    await settle()
    trace("resume")
    transport.resume_reading()
    await settle()


@secure
async def tls_goodbye_while_reading_is_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.pause_reading()
    peer.send(b"last words")
    peer.goodbye()
    await settle()
    trace("peer", peer.received())
    trace("resume")
    transport.resume_reading()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_closed_while_reading_is_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.pause_reading()
    peer.send(b"unheard")
    await settle()
    transport.close()
    await settle()
    trace("peer", peer.received())
    peer.goodbye()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_data_behind_the_end(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.close()
    await settle()
    peer.send(b"too late")
    await settle()
    peer.send(MEGABYTE[:50_000])
    await settle()
    peer.goodbye()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_data_as_it_is_closed(loop, trace):
    transport, peer = await connect(loop, trace)
    peer.send(b"crossing")
    transport.close()
    await settle()
    peer.goodbye()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_written_behind_the_end(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.close()
    transport.write(b"too late")
    transport.writelines([b"too ", b"late"])
    await settle()
    trace("peer", peer.received())
    peer.goodbye()
    await settle()
    for _ in range(25):
        transport.write(b"far too late")
    trace("size", transport.get_write_buffer_size())
    trace("peer", peer.received())


@secure
async def tls_written_to_a_peer_that_is_gone(loop, trace):
    transport, peer = await connect(loop, trace, sockets=tcp_pair())
    reset(peer.below.sock)
    for _ in range(25):
        transport.write(b"into the void")
    await settle()
    trace("size", transport.get_write_buffer_size())
    trace.yes("closing", transport.is_closing())


@secure
async def tls_end_takes_too_long(loop, trace):
    settings = {"ssl_shutdown_timeout": 5}
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server, settings=settings)
        transport.close()
        await settle()
        loop.advance(4.5)
        await settle()
        trace("later")
        loop.advance(1)
        await settle()
        trace("peer", peer.received())


@secure
async def tls_end_in_time(loop, trace):
    transport, peer = await connect(loop, trace, settings={"ssl_shutdown_timeout": 5})
    transport.close()
    await settle()
    peer.goodbye()
    loop.advance(4.5)
    await settle()
    loop.advance(10)
    await settle()


@secure
async def tls_end_of_a_slow_reader(loop, trace):
    """It is still reading when the time is over."""
    transport, peer = await connect(loop, trace, settings={"ssl_shutdown_timeout": 5})
    transport.set_write_buffer_limits(1 << 30)
    transport.write(5 * MEGABYTE)
    transport.close()
    total = 0
    for _ in range(3):
        await settle()
        total += len(peer.receive()[0])
        await settle()
        loop.advance(4)
    await settle()
    total += int((await peer.collect()).split()[0])
    trace.yes("all of it", total == 5_000_000)


@secure
async def tls_ended_in_callbacks(loop, trace):
    for step in ("close", "abort"):
        for callback in ("data", "eof"):
            end = lambda transport, *_: getattr(transport, step)()  # noqa: E731
            transport, peer = await connect(loop, trace, **{callback: end})
            peer.send(b"data")
            peer.goodbye()
            await settle()
            trace.yes("closing", transport.is_closing())
            trace("peer", peer.received())


@secure
async def tls_closed_as_it_is_made(loop, trace):
    for server in (False, True):
        transport, peer = await connect(loop, trace, server=server, made=lambda transport: transport.close())
        await settle()
        trace("peer", peer.received())
        peer.goodbye()
        await settle()
        trace("peer", peer.received())


@secure
async def tls_broken_record(loop, trace):
    transport, peer = await connect(loop, trace)
    peer.send(b"heard")
    peer.below.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    await settle()
    trace("peer", peer.received())
