"""Datagram endpoints."""

import asyncio
import errno
import socket
import tempfile

from .support import connected, describe, fail, keep, settle, trace_reports


def error_name(error):
    return "None" if error is None else errno.errorcode.get(error.errno, "error")


class Recorder(asyncio.DatagramProtocol):
    """Leaves a line for each callback, and then calls what was given for it."""

    def __init__(self, trace, **then):
        self.trace = trace
        self.then = then
        self.transport = None

    def note(self, callback, detail="", *arguments):
        self.trace(f"{callback}{' ' if detail else ''}{detail}")
        then = self.then.get(callback)
        if then is not None:
            then(self.transport, *arguments)

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def datagram_received(self, data, addr):
        self.note("datagram", describe(data), data, addr)

    def error_received(self, error):
        self.note("error", error_name(error))

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, error):
        self.note("lost", error_name(error))


async def bound(loop, trace, **then):
    """A recorded endpoint on the loopback, and its address."""
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Recorder(trace, **then), local_addr=("127.0.0.1", 0)
    )
    return transport, transport.get_extra_info("sockname")


def dead():
    """An address at which nobody receives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


async def over_unix(loop, trace, **then):
    """A recorded endpoint that is connected to a plain unix socket, which has a queue that can be filled."""
    with tempfile.TemporaryDirectory() as folder:
        peer, own = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        keep(peer)
        peer.bind(folder + "/peer")
        own.connect(folder + "/peer")
        transport, _ = await loop.create_datagram_endpoint(lambda: Recorder(trace, **then), sock=own)
    return transport, peer


def fill(transport):
    """Sends until something more waits. In some versions the size does not come back to zero."""
    before = transport.get_write_buffer_size()
    while transport.get_write_buffer_size() == before:
        transport.sendto(b"filler")


def drained(peer):
    """What has arrived at a plain socket but for the fillers."""
    lines = []
    while True:
        try:
            data = peer.recv(1 << 20)
        except BlockingIOError:
            return " ".join(lines) or "nothing"
        if data != b"filler":
            lines.append(describe(data))


@connected
async def datagram_echo(loop, trace):
    server, address = await bound(loop, trace, datagram=lambda server, data, addr: server.sendto(data, addr))
    client, _ = await loop.create_datagram_endpoint(lambda: Recorder(trace), remote_addr=address)
    trace("connected")
    for text in (b"one", b"two", b"three"):
        client.sendto(text)
        await settle()
    server.close()
    client.close()
    trace("closed")
    await settle()


@connected
async def datagram_refused(loop, trace):
    client, _ = await loop.create_datagram_endpoint(lambda: Recorder(trace), remote_addr=dead())
    for _ in range(2):
        client.sendto(b"anybody?")
        await settle()
        trace.yes("closing", client.is_closing())
    client.close()
    await settle()


@connected
async def datagram_too_long(loop, trace):
    endpoint, address = await bound(loop, trace)
    endpoint.sendto(b"x" * 70000, address)
    await settle()
    trace.yes("closing", endpoint.is_closing())
    endpoint.sendto(b"x" * 60000, address)
    await settle()
    endpoint.close()
    await settle()


@connected
async def datagram_error_at_once(loop, trace):
    endpoint, address = await bound(loop, trace)
    endpoint.sendto(b"x" * 70000, address)
    trace("sent")
    await settle()
    endpoint.close()
    await settle()


@connected
async def datagram_close_with_a_queue(loop, trace):
    endpoint, peer = await over_unix(loop, trace)
    fill(endpoint)
    endpoint.sendto(b"one")
    endpoint.sendto(b"two")
    endpoint.close()
    trace.yes("closing", endpoint.is_closing())
    await settle()
    trace("waits")
    for _ in range(4):
        trace(drained(peer))
        await settle()


@connected
async def datagram_abort_with_a_queue(loop, trace):
    endpoint, peer = await over_unix(loop, trace)
    fill(endpoint)
    endpoint.sendto(b"one")
    endpoint.close()
    endpoint.abort()
    await settle()
    trace(drained(peer))


@connected
async def datagram_sent_after_close(loop, trace):
    peer, address = await bound(loop, trace)
    client, _ = await loop.create_datagram_endpoint(lambda: Recorder(trace), remote_addr=address)
    client.close()
    client.sendto(b"late")
    await settle()
    for _ in range(7):
        client.sendto(b"later")
    client.close()
    client.abort()
    await settle()
    trace("end")


@connected
async def datagram_sent_while_closing(loop, trace):
    endpoint, peer = await over_unix(loop, trace)
    fill(endpoint)
    endpoint.close()
    endpoint.sendto(b"late")
    for _ in range(4):
        trace(drained(peer))
        await settle()


@connected
async def datagram_to_somebody_else(loop, trace):
    peer, address = await bound(loop, trace)
    client, _ = await loop.create_datagram_endpoint(lambda: Recorder(trace), remote_addr=address)
    client.sendto(b"to the peer", address)
    await settle()
    try:
        client.sendto(b"to somebody else", ("127.0.0.1", 9))
    except ValueError:
        trace("refused")
    trace.yes("closing", client.is_closing())
    await settle()


@connected
async def datagram_protocol_that_fails(loop, trace):
    trace_reports(loop, trace)
    endpoint, address = await bound(loop, trace, datagram=lambda *_: fail(), lost=lambda *_: fail())
    for text in (b"one", b"two"):
        endpoint.sendto(text, address)
        await settle()
        trace.yes("closing", endpoint.is_closing())
    endpoint.close()
    await settle()


@connected
async def datagram_error_in_the_queue(loop, trace):
    endpoint, peer = await over_unix(loop, trace)
    endpoint.set_write_buffer_limits(high=1 << 30)
    fill(endpoint)
    endpoint.sendto(b"one")
    endpoint.sendto(bytes(1 << 22))
    endpoint.sendto(b"two")
    for _ in range(4):
        trace(drained(peer))
        await settle()


@connected
async def datagram_pause_and_resume(loop, trace):
    endpoint, peer = await over_unix(loop, trace)
    endpoint.set_write_buffer_limits(high=120, low=100)
    fill(endpoint)
    await settle()
    trace("some")
    endpoint.sendto(bytes(200))
    await settle()
    trace("more")
    for _ in range(4):
        drained(peer)
        await settle()
    fill(endpoint)
    endpoint.sendto(bytes(200))
    await settle()
    endpoint.abort()
    await settle()


@connected
async def datagram_closed_when_one_comes(loop, trace):
    endpoint, address = await bound(loop, trace, datagram=lambda endpoint, *_: endpoint.close())
    endpoint.sendto(b"one", address)
    endpoint.sendto(b"two", address)
    await settle()
