"""What the scenarios share."""

import asyncio
import functools
import socket

# Name to (function, oldest version that it is for).
SCENARIOS = {}
# Those of them that need certificates.
SECURE = set()
# Sockets stay open until the scenario has ended, unless it closes them.
KEPT = []


def scenario(function=None, *, since=(3, 11)):
    """Registers a scenario: a function of a loop and a trace."""

    def register(function):
        assert function.__name__ not in SCENARIOS, function.__name__
        SCENARIOS[function.__name__] = (function, since)
        return function

    return register if function is None else register(function)


def connected(function):
    """A scenario that runs in a coroutine."""

    @functools.wraps(function)
    def run(loop, trace):
        loop.run_until_complete(function(loop, trace))

    return scenario(run)


def secure(function):
    """As connected, for one that needs certificates."""
    SECURE.add(function.__name__)
    return connected(function)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until it is advanced."""

    now = 1000.0

    def time(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


class Trace(list):
    """Lines; calling it appends one."""

    def __call__(self, *parts):
        self.append(" ".join(map(str, parts)))

    def yes(self, what, value):
        """A line that says whether something is so."""
        self(what, "yes" if value else "no")


def turn(loop):
    """Makes one turn."""
    loop.stop()
    loop.run_forever()


def turns(loop, trace, count):
    """Makes turns, with a line before each."""
    for number in range(1, count + 1):
        trace("-- turn", number)
        turn(loop)


async def settle():
    """Lets come to rest what needs no more than what is there."""
    for _ in range(10):
        await asyncio.sleep(0)


def kind(context):
    """What a call of the exception handler is about."""
    message = context["message"]
    for start, what in (
        ("Exception in callback", "callback"),
        ("Task exception was never retrieved", "task"),
        ("Future exception was never retrieved", "future"),
        ("Fatal error: protocol.data_received()", "data_received"),
        ("Fatal error: protocol.eof_received()", "eof_received"),
        ("Fatal error: protocol.get_buffer()", "get_buffer"),
        ("protocol.pause_writing() failed", "pause_writing"),
        ("protocol.resume_writing() failed", "resume_writing"),
    ):
        if message.startswith(start):
            return what
    return message


def trace_reports(loop, trace):
    """Lets the trace have a line for each call of the exception handler."""
    loop.set_exception_handler(lambda loop, context: trace("reported", kind(context)))


def fail():
    raise ValueError("on purpose")


def socket_pair():
    """Two connected stream sockets that do not block."""
    return keep(*socket.socketpair())


def keep(*sockets):
    for one in sockets:
        one.setblocking(False)
        KEPT.append(one)
    return sockets


def tcp_pair():
    """As socket_pair, over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return keep(one, other)


def reset(sock):
    """Ends a TCP connection without a farewell."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


def describe(data):
    """The bytes, or how many there are."""
    if len(data) > 40:
        return f"{len(data)} bytes"
    text = data.decode().replace("\n", "\\n")
    return f"'{text}'"


def receive(sock):
    """What has arrived at a plain socket, and how it ended if it did."""
    data = bytearray()
    while True:
        try:
            piece = sock.recv(1 << 20)
        except BlockingIOError:
            return bytes(data), ""
        except ConnectionResetError:
            return bytes(data), " reset"
        if not piece:
            return bytes(data), " eof"
        data += piece


def received(sock):
    """As a text."""
    data, end = receive(sock)
    return describe(data) + end


async def collect(sock):
    """What arrives at a plain socket until nothing more comes, as a text."""
    total, end, idle = 0, "", 0
    while idle < 2 and not end:
        data, end = receive(sock)
        total += len(data)
        idle = 0 if data else idle + 1
        await settle()
    return f"{total} bytes{end}"


def error_kind(error):
    if error is None:
        return "None"
    if isinstance(error, ConnectionResetError):
        return "reset"
    return "error"


class Recorder(asyncio.Protocol):
    """Leaves a line for each callback, and then calls what was given for it."""

    def __init__(self, trace, name="", keep_open=False, sizes=True, total=False, **then):
        self.trace = trace
        self.name = name + " " if name else ""
        self.keep_open = keep_open
        # Whether to tell of the sizes of queues.
        self.sizes = sizes
        # How much data has come that was not told of; None where each piece is.
        self.untold = 0 if total else None
        self.then = then
        self.transport = None

    def note(self, callback, detail="", *arguments):
        if self.untold is not None:
            if callback == "data":
                self.untold += len(arguments[0])
                return
            if self.untold:
                self.trace(f"{self.name}data {self.untold} bytes")
                self.untold = 0
        self.trace(f"{self.name}{callback}{' ' if detail else ''}{detail}")
        then = self.then.get(callback)
        if then is not None:
            then(self.transport, *arguments)

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        self.note("data", describe(data), data)

    def eof_received(self):
        self.note("eof")
        return self.keep_open

    def pause_writing(self):
        self.note("pause", self.size())

    def resume_writing(self):
        self.note("resume", self.size())

    def size(self):
        return str(self.transport.get_write_buffer_size()) if self.sizes else ""

    def connection_lost(self, error):
        self.note("lost", error_kind(error))


async def connect(loop, trace, *, sockets=None, **recorder):
    """A recorded connection over a pair of sockets: transport and the other socket."""
    own, peer = sockets or socket_pair()
    transport, _ = await loop.create_connection(lambda: Recorder(trace, **recorder), sock=own)
    return transport, peer
