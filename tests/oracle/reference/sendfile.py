"""Files over transports and sockets."""

import tempfile

from .support import collect, connect, connected, receive, received, settle, socket_pair


def make_file(data):
    """A file at its beginning."""
    file = tempfile.TemporaryFile()
    file.write(data)
    file.seek(0)
    return file


LARGE = b"0123456789" * 300_000


@connected
async def sendfile_then_write(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(b"a file") as file:
        transport.write(b"before ")
        trace("sent", await loop.sendfile(transport, file))
        trace("position", file.tell())
        transport.write(b" behind")
        await settle()
        trace("peer", received(peer))


@connected
async def sendfile_behind_a_queue(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(LARGE) as file:
        transport.write(b"x" * 1_000_000)
        sending = loop.create_task(loop.sendfile(transport, file))
        await settle()
        trace.yes("done", sending.done())
        trace.yes("reading", transport.is_reading())
        trace("peer", await collect(peer))
        trace("sent", await sending)
        trace.yes("reading", transport.is_reading())
        trace("position", file.tell())


@connected
async def sendfile_of_a_part(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(b"0123456789") as file:
        for offset, count in ((2, 3), (0, 4), (7, 100), (9, None)):
            trace("sent", await loop.sendfile(transport, file, offset, count))
            trace("position", file.tell())
        trace("sent", await loop.sendfile(transport, file))
        trace("position", file.tell())
        await settle()
        trace("peer", received(peer))


@connected
async def sendfile_on_a_closing_transport(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(b"a file") as file:
        file.seek(3)
        transport.close()
        try:
            await loop.sendfile(transport, file)
        except RuntimeError as error:
            trace("error", error)
        trace("position", file.tell())
        await settle()
        trace("peer", received(peer))


@connected
async def sendfile_while_the_peer_talks(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(LARGE) as file:
        sending = loop.create_task(loop.sendfile(transport, file))
        await settle()
        peer.send(b"hello")
        await settle()
        trace("peer", await collect(peer))
        trace("sent", await sending)
        await settle()


@connected
async def sendfile_while_reading_is_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(LARGE) as file:
        transport.pause_reading()
        sending = loop.create_task(loop.sendfile(transport, file))
        await settle()
        peer.send(b"hello")
        trace("peer", await collect(peer))
        trace("sent", await sending)
        await settle()
        trace("resume")
        transport.resume_reading()
        await settle()


@connected
async def write_while_a_file_is_sent(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(LARGE) as file:
        sending = loop.create_task(loop.sendfile(transport, file))
        await settle()
        try:
            transport.write(b"in between")
        except RuntimeError as error:
            trace("refused", error)
        trace("peer", await collect(peer))
        trace("sent", await sending)
        transport.write(b"behind")
        await settle()
        trace("peer", received(peer))


@connected
async def sendfile_and_the_peer_goes_away(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(LARGE) as file:
        sending = loop.create_task(loop.sendfile(transport, file))
        await settle()
        trace.yes("something came", len(receive(peer)[0]) > 0)
        await settle()
        peer.close()
        try:
            await sending
        except ConnectionError:
            trace("the connection is broken")
        trace.yes("half-way", 0 < file.tell() < len(LARGE))
        await settle()
        trace.yes("closing", transport.is_closing())


@connected
async def sendfile_over_a_socket(loop, trace):
    own, peer = socket_pair()
    with make_file(LARGE) as file:
        sending = loop.create_task(loop.sock_sendfile(own, file, 10, 2_000_000))
        await settle()
        trace.yes("done", sending.done())
        trace("peer", await collect(peer))
        trace("sent", await sending)
        trace("position", file.tell())


@connected
async def sendfile_over_a_socket_cancelled(loop, trace):
    own, peer = socket_pair()
    with make_file(LARGE) as file:
        sending = loop.create_task(loop.sock_sendfile(own, file))
        await settle()
        sending.cancel()
        await settle()
        at = file.tell()
        trace.yes("half-way", 0 < at < len(LARGE))
        rest = loop.create_task(loop.sock_sendfile(own, file, at))
        trace("peer", await collect(peer))
        trace.yes("all of it", at + await rest == len(LARGE))
        trace("position", file.tell())


@connected
async def sendfile_of_nothing(loop, trace):
    transport, peer = await connect(loop, trace)
    with make_file(b"0123456789") as file:
        file.seek(3)
        trace("sent", await loop.sendfile(transport, file, 20))
        trace("position", file.tell())
