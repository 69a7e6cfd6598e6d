"""TLS connections: how they begin, and how they do not."""

import contextvars
import socket
import ssl

from .support import receive, secure, settle, tcp_pair
from .tls_peer import (
    NAME,
    Recorder,
    TlsPeer,
    client_context,
    connect,
    connecting,
    outcome,
    server_context,
)

VERSIONS = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


async def round_trip(loop, trace, **settings):
    transport, peer = await connect(loop, trace, **settings)
    transport.write(b"hello")
    transport.writelines([b"one ", b"two ", b"three"])
    trace("peer", peer.received())
    peer.send(b"good ")
    peer.send(b"day")
    await settle()
    transport.close()
    trace.yes("closing", transport.is_closing())
    await settle()
    trace("peer", peer.received())
    peer.goodbye()
    await settle()
    trace("peer", peer.received())


@secure
async def tls_round_trip_of_a_client(loop, trace):
    for version in VERSIONS:
        await round_trip(loop, trace, version=version)


@secure
async def tls_round_trip_of_a_server(loop, trace):
    for version in VERSIONS:
        await round_trip(loop, trace, server=True, version=version)


@secure
async def tls_on_both_sides(loop, trace):
    sides = {"server": [], "client": []}
    lost = {name: loop.create_future() for name in sides}

    def recorder(name, **then):
        def line(*parts):
            sides[name].append(" ".join(map(str, parts)))

        return Recorder(line, lost=lambda _: lost[name].set_result(None), **then)

    def answer(transport, data):
        transport.write(data.upper())

    server = await loop.create_server(lambda: recorder("server", data=answer), "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    client = recorder("client", data=lambda transport, _: transport.close())
    transport, _ = await loop.create_connection(lambda: client, *address, ssl=client_context(), server_hostname=NAME)
    transport.write(b"hello")
    for name in sides:
        await lost[name]
    server.close()
    for name, lines in sides.items():
        trace(name)
        for line in lines:
            trace(line)


@secure
async def tls_writes_as_it_is_made(loop, trace):
    for server in (False, True):
        made = lambda transport: transport.write(b"at once")  # noqa: E731
        _, peer = await connect(loop, trace, server=server, made=made)
        trace("peer", peer.received())


@secure
async def tls_data_behind_the_handshake(loop, trace):
    """With TLS 1.2 the server has the last word, and may go on at once."""
    task, sock = await connecting(loop, trace, version=VERSIONS[0])

    async def wait():
        await task
        trace("connected")

    waiting = loop.create_task(wait())
    peer = TlsPeer(sock, server=True)
    await settle()
    peer.step()
    await settle()
    peer.step()
    peer.send(b"early")
    await settle()
    await waiting


@secure
async def tls_wrong_host_name(loop, trace):
    task, sock = await connecting(loop, trace, settings={"server_hostname": "wrong.example"})
    peer = TlsPeer(sock, server=True)
    how = await peer.handshake()
    await outcome(trace, task)
    trace("peer", how, peer.received())


@secure
async def tls_untrusted_certificate(loop, trace):
    for version in VERSIONS:
        context = client_context(version, trusting=False)
        task, sock = await connecting(loop, trace, context=context)
        peer = TlsPeer(sock, server=True)
        how = await peer.handshake()
        await outcome(trace, task)
        trace("peer", how, peer.received())


@secure
async def tls_client_that_does_not_trust_a_server(loop, trace):
    context = client_context(ssl.TLSVersion.TLSv1_2, trusting=False)
    task, sock = await connecting(loop, trace, server=True)
    peer = TlsPeer(sock, server=False, context=context)
    trace("peer", await peer.handshake())
    await outcome(trace, task)


@secure
async def tls_plain_text_to_a_server(loop, trace):
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    def factory():
        trace("factory")
        return Recorder(trace)

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.setblocking(False)
        sock.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await settle()
        data, end = receive(sock)
        trace.yes("alert", data[:1] == b"\x15")
        trace.yes("ended", end != "")
    trace.yes("reported", reports != [])
    server.close()


@secure
async def tls_garbage_in_the_handshake(loop, trace):
    for server in (False, True):
        task, sock = await connecting(loop, trace, server=server)
        await settle()
        receive(sock)
        sock.send(b"220 this is no TLS\r\n")
        await outcome(trace, task)
        await settle()
        data, end = receive(sock)
        trace.yes("alert", data[:1] == b"\x15")
        trace.yes("ended", end != "")


@secure
async def tls_peer_hangs_up_in_the_handshake(loop, trace):
    for server in (False, True):
        task, sock = await connecting(loop, trace, server=server)
        await settle()
        sock.close()
        await outcome(trace, task)
        await settle()


@secure
async def tls_handshake_takes_too_long(loop, trace):
    for server in (False, True):
        settings = {"ssl_handshake_timeout": 5}
        task, sock = await connecting(loop, trace, server=server, settings=settings)
        await settle()
        receive(sock)
        loop.advance(4.5)
        await settle()
        trace.yes("done", task.done())
        loop.advance(1)
        await outcome(trace, task)
        trace("peer", receive(sock)[1])


@secure
async def tls_handshake_in_time(loop, trace):
    settings = {"ssl_handshake_timeout": 5}
    transport, peer = await connect(loop, trace, settings=settings)
    loop.advance(100)
    await settle()
    peer.send(b"still here")
    await settle()
    trace.yes("closing", transport.is_closing())


@secure
async def tls_cancelled_in_the_handshake(loop, trace):
    for server in (False, True):
        task, sock = await connecting(loop, trace, server=server)
        await settle()
        receive(sock)
        task.cancel()
        await outcome(trace, task)
        await settle()
        trace("peer", receive(sock)[1])


@secure
async def tls_cancelled_at_once(loop, trace):
    task, sock = await connecting(loop, trace)
    task.cancel()
    await outcome(trace, task)
    await settle()
    await settle()


@secure
async def tls_info(loop, trace):
    for server in (False, True):
        for version in VERSIONS:
            transport, peer = await connect(loop, trace, server=server, version=version, sockets=tcp_pair())
            tell_info(trace, transport)
            trace.yes("peername", transport.get_extra_info("peername") is not None)
            transport.close()
            tell_info(trace, transport)
            peer.goodbye()
            await settle()
            tell_info(trace, transport)
            trace.yes("peername", transport.get_extra_info("peername") is not None)


def tell_info(trace, transport):
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        trace("no TLS")
    else:
        trace(tls.version(), "certificate" if tls.getpeercert(True) else "nobody", tls.selected_alpn_protocol())


@secure
async def tls_info_in_callbacks(loop, trace):
    made = lambda transport: tell_info(trace, transport)  # noqa: E731
    transport, peer = await connect(loop, trace, made=made, lost=made)
    peer.goodbye()
    await settle()


@secure
async def tls_chosen_protocol(loop, trace):
    for offered in (["h2", "http/1.1"], ["http/1.1"], []):
        context = client_context(alpn=offered)
        task, sock = await connecting(loop, trace, context=context)
        peer = TlsPeer(sock, server=True, context=server_context(alpn=["http/1.1", "h2"]))
        await peer.handshake()
        transport, _ = await task
        tell_info(trace, transport)


@secure
async def tls_contexts(loop, trace):
    variable = contextvars.ContextVar("variable", default="default")

    def tell(transport, *data):
        trace("in", variable.get())

    async def make():
        variable.set("connecting")
        return await connect(loop, trace, made=tell, data=tell, eof=tell, lost=tell)

    variable.set("outside")
    transport, peer = await loop.create_task(make())
    peer.send(b"data")
    await settle()
    peer.goodbye()
    await settle()


@secure
async def tls_another_protocol(loop, trace):
    transport, peer = await connect(loop, trace, name="first")
    peer.send(b"one")
    await settle()
    second = Recorder(trace, "second")
    transport.set_protocol(second)
    trace.yes("second", transport.get_protocol() is second)
    peer.send(b"two")
    await settle()
    peer.goodbye()
    await settle()
