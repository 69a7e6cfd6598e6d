"""Streams and files over TLS."""

import asyncio
import tempfile

from .support import secure, settle, socket_pair
from .tls_peer import NAME, TlsPeer, client_context, connect, server_context

LARGE = b"0123456789" * 300_000


async def open_stream(loop, **settings):
    own, sock = socket_pair()
    opening = asyncio.open_connection(sock=own, ssl=client_context(), server_hostname=NAME, **settings)
    task = loop.create_task(opening)
    await settle()
    peer = TlsPeer(sock, server=True)
    assert await peer.handshake() == "done"
    reader, writer = await task
    return reader, writer, peer


@secure
async def tls_lines(loop, trace):
    reader, writer, peer = await open_stream(loop)
    peer.send(b"one\ntwo")
    trace("line", (await reader.readline()).decode().strip())
    peer.send(b"\nthree")
    trace("line", (await reader.readline()).decode().strip())
    trace.yes("at eof", reader.at_eof())
    peer.goodbye()
    trace("line", (await reader.readline()).decode().strip())
    trace.yes("at eof", reader.at_eof())
    await settle()
    trace.yes("closing", writer.is_closing())
    writer.close()
    await writer.wait_closed()
    trace("closed")


@secure
async def tls_stream_closed(loop, trace):
    reader, writer, peer = await open_stream(loop)
    writer.write(b"hello")
    await writer.drain()
    trace.yes("can write eof", writer.can_write_eof())
    writer.close()
    closing = loop.create_task(writer.wait_closed())
    await settle()
    trace.yes("closed", closing.done())
    trace("peer", peer.received())
    peer.goodbye()
    await settle()
    trace.yes("closed", closing.done())
    await closing
    trace("peer", peer.received())
    trace("read", len(await reader.read()))


@secure
async def tls_stream_cut_off(loop, trace):
    reader, writer, peer = await open_stream(loop)
    peer.send(b"half")
    peer.close()
    try:
        await reader.readexactly(10)
    except asyncio.IncompleteReadError as error:
        trace("incomplete", error.partial.decode(), error.expected)
    writer.close()
    await writer.wait_closed()
    trace("closed")


@secure
async def tls_stream_drained(loop, trace):
    reader, writer, peer = await open_stream(loop)
    writer.write(LARGE[:600_000])
    writer.write(LARGE[:600_000])
    draining = loop.create_task(writer.drain())
    await settle()
    trace.yes("drained", draining.done())
    trace("peer", await peer.collect())
    trace.yes("drained", draining.done())
    await draining


@secure
async def tls_stream_with_a_small_limit(loop, trace):
    """Reading stops where nobody takes what has come, and goes on."""
    reader, writer, peer = await open_stream(loop, limit=1000)
    for _ in range(10):
        peer.send(b"x" * 999 + b"\n")
        await settle()
    peer.goodbye()
    await settle()
    for _ in range(11):
        trace("line", len(await reader.readline()))


@secure
async def tls_stream_aborted(loop, trace):
    reader, writer, peer = await open_stream(loop)
    reading = loop.create_task(reader.read(10))
    await settle()
    writer.transport.abort()
    await settle()
    trace("read", len(await reading))
    await writer.wait_closed()
    trace("closed")


@secure
async def tls_stream_server(loop, trace):
    ended = loop.create_future()

    async def serve(reader, writer):
        line = await reader.readline()
        trace("server", line.decode().strip())
        writer.write(line.upper())
        trace("server", len(await reader.read()))
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address, ssl=client_context(), server_hostname=NAME)
    writer.write(b"hello\n")
    trace("client", (await reader.readline()).decode().strip())
    writer.close()
    await writer.wait_closed()
    await ended
    server.close()


@secure
async def tls_file(loop, trace):
    transport, peer = await connect(loop, trace)
    with tempfile.TemporaryFile() as file:
        file.write(LARGE)
        file.seek(0)
        transport.write(b"before ")
        sending = loop.create_task(loop.sendfile(transport, file, 10, 2_000_000))
        await settle()
        trace.yes("reading", transport.is_reading())
        total = 0
        while not sending.done():
            total += len(peer.receive()[0])
            await settle()
        trace("sent", await sending)
        trace.yes("reading", transport.is_reading())
        trace("position", file.tell())
        transport.write(b" behind")
        await settle()
        trace("peer", total + int((await peer.collect()).split()[0]))


@secure
async def tls_file_without_the_fallback(loop, trace):
    transport, peer = await connect(loop, trace)
    with tempfile.TemporaryFile() as file:
        file.write(b"a file")
        file.seek(0)
        try:
            await loop.sendfile(transport, file, fallback=False)
        except RuntimeError:
            trace("refused")
        trace("position", file.tell())
    trace.yes("closing", transport.is_closing())
