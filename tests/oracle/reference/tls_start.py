"""Connections that change to TLS, and TLS over TLS."""

import contextvars

from .support import connect as connect_plain
from .support import receive, received, secure, settle, socket_pair
from .tls_peer import NAME, Recorder, TlsPeer, client_context, connect, failure, server_context


def start(loop, transport, protocol, *, server=False, **settings):
    """A task that changes to TLS."""
    context = server_context() if server else client_context()
    name = None if server else NAME
    changing = loop.start_tls(transport, protocol, context, server_side=server, server_hostname=name, **settings)
    return loop.create_task(changing)


async def changed(trace, task):
    """Says what has become of it."""
    try:
        return await task
    except Exception as error:
        trace("failed", failure(error))
    except BaseException:
        trace("cancelled")


@secure
async def tls_started(loop, trace):
    for server in (False, True):
        plain, sock = await connect_plain(loop, trace, name="old")
        sock.send(b"ready?")
        await settle()
        plain.write(b"ready")
        task = start(loop, plain, Recorder(trace, "new"), server=server)
        await settle()
        # No more than was said in clear.
        trace("peer", sock.recv(5).decode())
        peer = TlsPeer(sock, server=not server)
        trace("peer", await peer.handshake())
        transport = await changed(trace, task)
        transport.write(b"hello")
        trace("peer", peer.received())
        peer.send(b"good day")
        await settle()
        trace.yes("old one is closing", plain.is_closing())
        transport.close()
        await settle()
        peer.goodbye()
        await settle()
        trace("peer", peer.received())
        trace.yes("old one is closing", plain.is_closing())


@secure
async def tls_started_with_the_same_protocol(loop, trace):
    plain, sock = await connect_plain(loop, trace, name="same")
    task = start(loop, plain, plain.get_protocol())
    peer = TlsPeer(sock, server=True)
    await settle()
    trace("peer", await peer.handshake())
    await changed(trace, task)
    peer.send(b"hello")
    await settle()
    peer.goodbye()
    await settle()


@secure
async def tls_started_and_the_peer_is_no_friend(loop, trace):
    for server in (False, True):
        plain, sock = await connect_plain(loop, trace, name="old")
        task = start(loop, plain, Recorder(trace, "new"), server=server)
        await settle()
        receive(sock)
        sock.send(b"500 what is this?\r\n")
        await settle()
        await changed(trace, task)
        await settle()
        data, end = receive(sock)
        trace.yes("alert", data[:1] == b"\x15")
        trace.yes("ended", end != "")


@secure
async def tls_started_and_the_peer_goes(loop, trace):
    for server in (False, True):
        plain, sock = await connect_plain(loop, trace, name="old")
        task = start(loop, plain, Recorder(trace, "new"), server=server)
        await settle()
        sock.close()
        await settle()
        await changed(trace, task)
        await settle()


@secure
async def tls_started_and_cancelled(loop, trace):
    for server in (False, True):
        plain, sock = await connect_plain(loop, trace, name="old")
        task = start(loop, plain, Recorder(trace, "new"), server=server)
        await settle()
        task.cancel()
        await settle()
        await changed(trace, task)
        trace("peer", receive(sock)[1])


@secure
async def tls_started_and_too_slow(loop, trace):
    for server in (False, True):
        plain, sock = await connect_plain(loop, trace, name="old")
        task = start(loop, plain, Recorder(trace, "new"), server=server, ssl_handshake_timeout=5)
        await settle()
        receive(sock)
        loop.advance(6)
        await settle()
        await changed(trace, task)
        await settle()
        trace("peer", receive(sock)[1])


@secure
async def tls_started_on_a_closing_transport(loop, trace):
    plain, sock = await connect_plain(loop, trace, name="old")
    plain.close()
    task = start(loop, plain, Recorder(trace, "new"))
    await settle()
    trace.yes("done", task.done())
    task.cancel()
    await changed(trace, task)
    trace("peer", received(sock))


@secure
async def tls_started_with_data_behind_the_handshake(loop, trace):
    """The answer goes over the transport that the caller has put in its place."""
    plain, sock = await connect_plain(loop, trace, name="old")
    current = [plain]
    new = Recorder(trace, "new", data=lambda transport, data: current[0].write(data.upper()))

    async def change():
        current[0] = await start(loop, plain, new, server=True)
        trace("changed")

    task = loop.create_task(change())
    await settle()
    peer = TlsPeer(sock, server=False)
    peer.step()
    await settle()
    peer.feed()
    peer.tls.do_handshake()
    peer.tls.write(b"early")
    peer.flush()
    await settle()
    await task
    trace("peer", peer.received())


@secure
async def tls_started_where_it_is(loop, trace):
    """The contexts of the callbacks."""
    variable = contextvars.ContextVar("variable", default="default")

    def tell(transport, *data):
        trace("in", variable.get())

    async def make():
        variable.set("connecting")
        return await connect_plain(loop, trace, data=tell)

    async def change():
        variable.set("changing")
        new = Recorder(trace, "new", data=tell, eof=tell, lost=tell)
        return await start(loop, plain, new)

    plain, sock = await loop.create_task(make())
    sock.send(b"data")
    await settle()
    task = loop.create_task(change())
    await settle()
    peer = TlsPeer(sock, server=True)
    await peer.handshake()
    await task
    peer.send(b"data")
    await settle()
    peer.goodbye()
    await settle()


@secure
async def tls_over_tls(loop, trace):
    for server in (False, True):
        outer, below = await connect(loop, trace, server=server, name="outer")
        task = start(loop, outer, Recorder(trace, "inner"), server=server)
        await settle()
        peer = TlsPeer(below, server=not server)
        trace("peer", await peer.handshake())
        inner = await changed(trace, task)
        inner.write(b"hello")
        await settle()
        trace("peer", peer.received())
        peer.send(b"good day")
        await settle()
        inner.close()
        await settle()
        trace("peer", peer.received())
        peer.goodbye()
        await settle()
        below.goodbye()
        await settle()
        trace("below", below.received())


@secure
async def tls_over_tls_ended_by_the_peer(loop, trace):
    outer, below = await connect(loop, trace, name="outer")
    task = start(loop, outer, Recorder(trace, "inner"))
    await settle()
    peer = TlsPeer(below, server=True)
    trace("peer", await peer.handshake())
    await changed(trace, task)
    peer.send(b"last words")
    peer.goodbye()
    await settle()
    trace("peer", peer.received())
    below.goodbye()
    await settle()
    trace("below", below.received())
