"""The other end of a TLS connection, by hand."""

import asyncio
import pathlib
import socket
import ssl

from . import support
from .support import describe, receive, settle, socket_pair

NAME = "localhost"
# Where the certificates are.
folder = pathlib.Path()


def read_certificates(path):
    global folder
    folder = pathlib.Path(path)


def client_context(version=None, trusting=True, alpn=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusting:
        context.load_verify_locations(folder / "ca.pem")
    return settings(context, version, alpn)


def server_context(version=None, alpn=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return settings(context, version, alpn)


def settings(context, version, alpn):
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class Plain:
    """A plain socket."""

    def __init__(self, sock):
        self.sock = sock

    def send(self, data):
        try:
            assert self.sock.send(data) == len(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self):
        return receive(self.sock)

    def close(self):
        self.sock.close()


class TlsPeer:
    """TLS by hand over what is below: a plain socket, or TLS again."""

    def __init__(self, below, *, server, context=None, name=NAME):
        self.below = Plain(below) if isinstance(below, socket.socket) else below
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.end = ""
        context = context or (server_context() if server else client_context())
        name = None if server else name
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=name)

    def flush(self):
        records = self.outgoing.read()
        if records:
            self.below.send(records)

    def feed(self):
        """Takes what has arrived."""
        data, end = self.below.receive()
        self.incoming.write(data)
        self.end = self.end or end

    def step(self):
        """Goes on with the handshake, and says how that has ended if it has."""
        self.feed()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return self.end.strip() or None
        except ssl.SSLError as error:
            self.flush()
            return "alert" if "ALERT" in error.reason else "error"
        self.flush()
        return "done"

    async def handshake(self):
        for _ in range(5):
            how = self.step()
            await settle()
            if how is not None:
                return how
        return "nothing"

    def send(self, data):
        assert self.tls.write(data) == len(data)
        self.flush()

    def receive(self):
        """What has arrived, and how it ended if it did."""
        self.feed()
        data, end = bytearray(), ""
        try:
            while not end:
                piece = self.tls.read(1 << 20)
                data += piece
                end = "" if piece else " close_notify"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            end = " close_notify"
        except ssl.SSLError as error:
            end = " alert" if "ALERT" in (error.reason or "") else " error"
        return bytes(data), end + self.end

    def received(self):
        """As a text."""
        data, end = self.receive()
        return describe(data) + end

    async def collect(self):
        """What arrives until nothing more comes, as a text."""
        total, end, idle = 0, "", 0
        while idle < 2 and not end:
            data, end = self.receive()
            total += len(data)
            idle = 0 if data else idle + 1
            await settle()
        return f"{total} bytes{end}"

    def goodbye(self):
        """Says that nothing follows."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        self.flush()

    def close(self):
        self.below.close()


class Recorder(support.Recorder):
    """One that tells of no sizes: they count what is encrypted."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, sizes=False, **settings)


async def connecting(loop, trace, *, server=False, sockets=None, version=None, context=None, settings=None, **recorder):
    """A task that makes a recorded connection, and the socket of its other end."""
    own, peer = sockets or socket_pair()
    settings = settings or {}

    def factory():
        return Recorder(trace, **recorder)

    if server:
        context = context or server_context(version)
        connection = loop.connect_accepted_socket(factory, own, ssl=context, **settings)
    else:
        context = context or client_context(version)
        connection = loop.create_connection(factory, sock=own, ssl=context, **{"server_hostname": NAME} | settings)
    return loop.create_task(connection), peer


async def connect(loop, trace, *, server=False, version=None, context=None, **others):
    """A recorded connection: its transport and its other end."""
    task, peer = await connecting(loop, trace, server=server, version=version, context=context, **others)
    peer = TlsPeer(peer, server=not server)
    assert await peer.handshake() == "done"
    transport, _ = await task
    # What a server sends of its own accord, so that nothing is left unread.
    peer.feed()
    await settle()
    return transport, peer


def failure(error):
    """What a connection has failed with."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, ConnectionResetError):
        return "reset"
    if isinstance(error, ConnectionAbortedError):
        return "aborted"
    return "error"


async def outcome(trace, task):
    """Says what has become of a task."""
    try:
        await task
    except asyncio.CancelledError:
        trace("cancelled")
    except Exception as error:
        trace("failed", failure(error))
    else:
        trace("connected")
