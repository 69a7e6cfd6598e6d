"""Talks to a web socket server that echoes, and complains of whatever is not as it should be."""

import asyncio
import ssl
import sys

import websockets


async def main(url, ca=None):
    context = ssl.create_default_context(cafile=ca) if ca else None
    async with websockets.connect(url, ssl=context, max_size=None) as socket:
        for message in ["hello", "", "häß", b"\x00\xff", b"", "x" * 125, "x" * 126, b"y" * 65535, b"y" * 65536]:
            await socket.send(message)
            assert await socket.recv() == message, message
        # In pieces, between which a ping may come.
        await socket.send(["one ", "two ", "", "three"])
        assert await socket.recv() == "one two three"

        async def pieces():
            for n in range(20):
                yield bytes([n]) * 1000
                await (await socket.ping(b"still there?"))

        await socket.send(pieces())
        assert await socket.recv() == b"".join(bytes([n]) * 1000 for n in range(20))
        big = bytes(range(256)) * 4096
        await socket.send(big)
        assert await socket.recv() == big
        # Many at once, read all the while.
        sending = asyncio.ensure_future(send_all(socket, 500))
        for n in range(500):
            assert await socket.recv() == f"message {n}"
        await sending
        await socket.close(4000, "that was all")
    assert (socket.close_code, socket.close_reason) == (4000, "that was all"), socket.close_code
    # What is too long is refused, by a code that says so or by the end of the connection.
    async with websockets.connect(url, ssl=context, max_size=None) as socket:
        try:
            await socket.send(b"z" * (17 << 20))
            await socket.recv()
            raise AssertionError("a message of 17 MiB was taken")
        except websockets.ConnectionClosed:
            pass
    print("done")


async def send_all(socket, count):
    for n in range(count):
        await socket.send(f"message {n}")


asyncio.run(main(*sys.argv[1:]))
