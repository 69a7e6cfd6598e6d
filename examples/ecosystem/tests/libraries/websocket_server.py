"""A web socket server that does what it is told: pieces, pings, and farewells."""

import asyncio
import ssl
import sys

import websockets


async def handle(socket, _path=None):
    try:
        async for message in socket:
            await answer(socket, message)
    except websockets.ConnectionClosed:
        pass


async def answer(socket, message):
    if message == "pieces":
        await socket.send(["one ", "two ", "three"])
    elif message == "ping":
        await (await socket.ping(b"there?"))
        await socket.send("pong")
    elif message == "close":
        await socket.close(4001, "as you like")
    else:
        await socket.send(message)


async def main(cert=None, key=None):
    context = None
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
    async with websockets.serve(handle, "127.0.0.1", 0, ssl=context, max_size=None) as server:
        address = server.sockets[0].getsockname()
        print(f"listening on {address[0]}:{address[1]}", flush=True)
        await asyncio.Future()


asyncio.run(main(*sys.argv[1:]))
