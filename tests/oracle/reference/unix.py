"""Unix sockets: half close, and what becomes of files."""

import asyncio
import functools
import os
import socket
import tempfile

from .support import Recorder, keep, scenario, settle


def on_path(function=None, *, since=(3, 11)):
    """A scenario that runs in a coroutine, and has a path for a socket."""

    def register(function):
        @functools.wraps(function)
        def run(loop, trace):
            with tempfile.TemporaryDirectory(prefix="rdl") as folder:
                loop.run_until_complete(function(loop, trace, os.path.join(folder, "socket")))

        return scenario(run, since=since)

    return register if function is None else register(function)


def leave_stale(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.close()


def client(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return keep(sock)[0]


async def attempt(trace, what, future):
    """Whether a server can be made; closes it."""
    try:
        server = await future
    except OSError as error:
        names = {FileNotFoundError: "not found", ConnectionRefusedError: "refused"}
        trace(what, names.get(type(error), "in use"))
    else:
        trace(what, "serves")
        server.close()


@on_path
async def unix_half_close(loop, trace, path):
    made, lost = loop.create_future(), loop.create_future()
    server = await loop.create_unix_server(
        lambda: Recorder(
            trace,
            "server",
            keep_open=True,
            made=made.set_result,
            eof=lambda transport: (transport.write(b"answer"), transport.write_eof()),
            lost=lambda transport: lost.set_result(None),
        ),
        path,
    )
    ended = loop.create_future()
    transport, _ = await loop.create_unix_connection(
        lambda: Recorder(trace, "client", keep_open=True, eof=lambda transport: ended.set_result(None)), path
    )
    accepted = await made
    transport.write(b"question")
    transport.write_eof()
    await ended
    trace.yes("client closing", transport.is_closing())
    trace.yes("server closing", accepted.is_closing())
    transport.close()
    accepted.close()
    await lost
    await settle()
    server.close()


@on_path
async def unix_close_flushes_and_peer_hears(loop, trace, path):
    lost = loop.create_future()
    server = await loop.create_unix_server(
        lambda: Recorder(
            trace,
            "server",
            made=lambda transport: (transport.write(b"all of it"), transport.close()),
            lost=lambda transport: None,
        ),
        path,
    )
    await loop.create_unix_connection(
        lambda: Recorder(trace, "client", lost=lambda transport: lost.set_result(None)), path
    )
    await lost
    await settle()
    server.close()


@on_path
async def unix_stale_file_is_replaced(loop, trace, path):
    leave_stale(path)
    made = loop.create_future()
    server = await loop.create_unix_server(lambda: Recorder(trace, "server", made=made.set_result), path)
    client(path)
    accepted = await made
    accepted.abort()
    await settle()
    server.close()


@on_path
async def unix_what_is_in_the_way(loop, trace, path):
    with open(path, "w"):
        pass
    await attempt(trace, "file", loop.create_unix_server(asyncio.Protocol, path))
    trace.yes("file left", os.path.isfile(path))
    missing = os.path.join(os.path.dirname(path), "missing", "socket")
    await attempt(trace, "missing folder", loop.create_unix_server(asyncio.Protocol, missing))
    for what, target in (("connect to file", path), ("connect to nothing", path + "x")):
        try:
            await loop.create_unix_connection(asyncio.Protocol, target)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            trace(what, {FileNotFoundError: "not found"}.get(type(error), "refused"))


@on_path
async def unix_live_socket_is_in_the_way(loop, trace, path):
    first = await loop.create_unix_server(asyncio.Protocol, path)
    await attempt(trace, "second", loop.create_unix_server(asyncio.Protocol, path))
    first.close()


async def file_after_close(loop, trace, path, **options):
    server = await loop.create_unix_server(asyncio.Protocol, path, **options)
    trace.yes("file while it serves", os.path.exists(path))
    server.close()
    trace.yes("file when it is closed", os.path.exists(path))


@on_path(since=(3, 13))
async def unix_close_removes_the_file(loop, trace, path):
    await file_after_close(loop, trace, path)


@on_path(since=(3, 13))
async def unix_close_leaves_the_file_on_request(loop, trace, path):
    await file_after_close(loop, trace, path, cleanup_socket=False)


@on_path(since=(3, 13))
async def unix_close_leaves_what_was_replaced(loop, trace, path):
    first = await loop.create_unix_server(asyncio.Protocol, path)
    os.unlink(path)
    second = await loop.create_unix_server(asyncio.Protocol, path)
    first.close()
    trace.yes("file of the second", os.path.exists(path))
    second.close()
    trace.yes("file", os.path.exists(path))
