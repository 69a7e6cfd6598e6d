"""Servers and their connections."""

import asyncio
import socket

from .support import Recorder, connected, describe, keep, scenario, settle


def client(address):
    return keep(socket.create_connection(address))[0]


async def heard(sock, loop):
    """What the next arrival at a plain socket is."""
    try:
        data = await loop.sock_recv(sock, 1000)
    except ConnectionResetError:
        return "reset"
    return describe(data) if data else "eof"


class Counted:
    """Numbers the connections of a server."""

    def __init__(self, trace, loop, **recorder):
        self.trace, self.loop, self.recorder = trace, loop, recorder
        self.made = [loop.create_future() for _ in range(9)]
        self.lost = [loop.create_future() for _ in range(9)]
        self.protocols = []

    def __call__(self):
        number = len(self.protocols)
        self.trace("factory", number)
        then = dict(self.recorder)
        then["made"] = lambda transport: self.made[number].set_result(None)
        then["lost"] = lambda transport: self.lost[number].set_result(None)
        self.protocols.append(Recorder(self.trace, f"server {number}", **then))
        return self.protocols[-1]


@connected
async def serve_and_answer(loop, trace):
    factory = Counted(trace, loop, data=lambda transport, data: transport.write(data.upper()))
    server = await loop.create_server(factory, "127.0.0.1", 0)
    trace.yes("serving", server.is_serving())
    sock = client(server.sockets[0].getsockname())
    await factory.made[0]
    sock.send(b"hello")
    trace(await heard(sock, loop))
    sock.close()
    await factory.lost[0]
    server.close()
    trace.yes("serving", server.is_serving())


@connected
async def connections_that_wait_to_be_accepted(loop, trace):
    factory = Counted(trace, loop)
    server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
    listener = server.sockets[0]
    await server.start_serving()
    clients = [client(listener.getsockname()) for _ in range(3)]
    for made in factory.made[:3]:
        await made
    for sock in clients:
        sock.close()
    for lost in factory.lost[:3]:
        await lost
    server.close()


@connected
async def not_serving_at_first(loop, trace):
    factory = Counted(trace, loop)
    server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
    address = server.sockets[0].getsockname()
    trace.yes("serving", server.is_serving())
    try:
        client(address)
    except ConnectionRefusedError:
        trace("refused")
    await server.start_serving()
    await server.start_serving()
    trace.yes("serving", server.is_serving())
    sock = client(address)
    await factory.made[0]
    sock.close()
    await factory.lost[0]
    server.close()


@connected
async def close_with_live_clients(loop, trace):
    factory = Counted(trace, loop, data=lambda transport, data: transport.write(data.upper()))
    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    sock = client(address)
    await factory.made[0]
    server.close()
    server.close()
    trace("sockets", len(server.sockets))
    await settle()
    try:
        client(address)
    except ConnectionRefusedError:
        trace("refused")
    sock.send(b"still there")
    trace(await heard(sock, loop))
    sock.close()
    await factory.lost[0]


@connected
async def server_closes_its_clients_one_by_one(loop, trace):
    factory = Counted(trace, loop)
    server = await loop.create_server(factory, "127.0.0.1", 0)
    sock = client(server.sockets[0].getsockname())
    await factory.made[0]
    factory.protocols[0].transport.write(b"farewell")
    factory.protocols[0].transport.close()
    await factory.lost[0]
    trace(await heard(sock, loop))
    trace(await heard(sock, loop))
    server.close()


@scenario(since=(3, 12, 1))
def waiting_for_the_end_of_a_server(loop, trace):
    async def wait(server):
        await server.wait_closed()
        trace("server has ended")

    async def main():
        factory = Counted(trace, loop)
        server = await loop.create_server(factory, "127.0.0.1", 0)
        sock = client(server.sockets[0].getsockname())
        await factory.made[0]
        task = loop.create_task(wait(server))
        await settle()
        trace("close")
        server.close()
        await settle()
        trace.yes("done", task.done())
        sock.close()
        await task
        await server.wait_closed()

    loop.run_until_complete(main())


@scenario(since=(3, 13))
def close_and_abort_of_clients(loop, trace):
    async def main():
        for method in ("close_clients", "abort_clients"):
            factory = Counted(trace, loop)
            server = await loop.create_server(factory, "127.0.0.1", 0)
            sock = client(server.sockets[0].getsockname())
            await factory.made[0]
            factory.protocols[0].transport.write(b"farewell")
            trace(method)
            getattr(server, method)()
            server.close()
            await server.wait_closed()
            trace("server has ended")
            trace(await heard(sock, loop))
            trace(await heard(sock, loop))

    loop.run_until_complete(main())


@connected
async def serving_for_ever(loop, trace):
    server = await loop.create_server(Counted(trace, loop), "127.0.0.1", 0, start_serving=False)

    async def serve(name):
        try:
            await server.serve_forever()
        except asyncio.CancelledError:
            trace(name, "cancelled")
        except RuntimeError:
            trace(name, "refused")

    task = loop.create_task(serve("first"))
    await settle()
    trace.yes("serving", server.is_serving())
    await serve("second")
    task.cancel()
    await settle()
    trace.yes("serving", server.is_serving())
    trace.yes("done", task.done())
    await serve("third")


@connected
async def stream_server(loop, trace):
    done = loop.create_future()

    async def serve(reader, writer):
        trace("handler begins")
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        trace("end of file")
        writer.close()
        await writer.wait_closed()
        trace("closed")
        done.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for text in (b"one\n", b"two\n"):
        writer.write(text)
        trace(describe(await reader.readline()))
    writer.write_eof()
    await done
    trace.yes("eof", await reader.read() == b"")
    writer.close()
    await writer.wait_closed()
    trace("client closed")
    server.close()


@connected
async def close_with_a_connection_waiting(loop, trace):
    server = await loop.create_server(Counted(trace, loop), "127.0.0.1", 0)
    sock = client(server.sockets[0].getsockname())
    loop.call_soon(server.close)
    await settle()
    trace(await heard(sock, loop))
