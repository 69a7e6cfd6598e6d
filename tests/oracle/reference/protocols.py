"""The callbacks of a protocol, from the first to the last."""

from .support import Recorder, collect, connect, connected, fail, received, settle, socket_pair, trace_reports


@connected
async def close(loop, trace):
    transport, peer = await connect(loop, trace)
    trace("connected")
    trace.yes("closing", transport.is_closing())
    loop.call_soon(trace, "before")
    transport.close()
    loop.call_soon(trace, "after")
    trace.yes("closing", transport.is_closing())
    trace(received(peer))
    await settle()
    trace(received(peer))


@connected
async def abort(loop, trace):
    transport, peer = await connect(loop, trace)
    loop.call_soon(trace, "before")
    transport.abort()
    loop.call_soon(trace, "after")
    trace.yes("closing", transport.is_closing())
    await settle()
    trace(received(peer))


@connected
async def write_then_close(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(b"hello")
    transport.write(b"")
    transport.write(b" world")
    transport.close()
    transport.write(b"too late")
    await settle()
    trace(received(peer))
    transport.write(b"too late")
    trace("end")


@connected
async def close_and_abort_in_every_order(loop, trace):
    for order in ("close close", "close abort", "abort close", "abort abort close"):
        trace(order)
        transport, peer = await connect(loop, trace)
        for step in order.split():
            getattr(transport, step)()
        await settle()
        transport.close()
        transport.abort()
        await settle()


@connected
async def close_when_data_comes(loop, trace):
    def data(transport, data):
        transport.close()
        peer.send(b"more")

    transport, peer = await connect(loop, trace, data=data)
    peer.send(b"one")
    peer.send(b"two")
    await settle()
    peer.close()
    await settle()


@connected
async def abort_when_data_comes(loop, trace):
    transport, peer = await connect(loop, trace, data=lambda transport, data: transport.abort())
    peer.send(b"one")
    peer.close()
    await settle()


@connected
async def close_when_the_connection_is_made(loop, trace):
    for step in ("close", "abort"):
        transport, peer = await connect(loop, trace, made=lambda transport: getattr(transport, step)())
        trace.yes("closing", transport.is_closing())
        await settle()
        trace(received(peer))


@connected
async def data_that_is_there_before_the_connection(loop, trace):
    own, peer = socket_pair()
    peer.send(b"early")
    transport, peer = await connect(loop, trace, sockets=(own, peer))
    trace("connected")
    await settle()


@connected
async def scheduled_when_the_connection_is_made(loop, trace):
    await connect(loop, trace, made=lambda transport: loop.call_soon(trace, "soon"))
    trace("connected")
    await settle()


@connected
async def peer_closes(loop, trace):
    transport, peer = await connect(loop, trace, eof=lambda transport: trace.yes("closing", transport.is_closing()))
    peer.close()
    await settle()
    trace.yes("closing", transport.is_closing())


@connected
async def peer_sends_and_closes(loop, trace):
    transport, peer = await connect(loop, trace)
    peer.send(b"last words")
    peer.close()
    await settle()


@connected
async def scheduled_between_data_and_end_of_file(loop, trace):
    transport, peer = await connect(loop, trace, data=lambda transport, data: loop.call_soon(trace, "soon"))
    peer.send(b"last words")
    peer.close()
    await settle()


@connected
async def half_close_by_the_peer(loop, trace):
    transport, peer = await connect(loop, trace, keep_open=True)
    peer.send(b"question")
    peer.shutdown(1)
    await settle()
    trace.yes("closing", transport.is_closing())
    transport.write(b"answer")
    trace(received(peer))
    transport.close()
    await settle()
    trace(received(peer))


@connected
async def reading_after_the_end_of_file(loop, trace):
    transport, peer = await connect(loop, trace, keep_open=True)
    peer.shutdown(1)
    await settle()
    trace.yes("reading", transport.is_reading())
    transport.close()
    await settle()


@connected
async def half_close_by_us(loop, trace):
    transport, peer = await connect(loop, trace)
    trace.yes("possible", transport.can_write_eof())
    transport.write(b"question")
    transport.write_eof()
    transport.write_eof()
    trace.yes("closing", transport.is_closing())
    await settle()
    trace(received(peer))
    peer.send(b"answer")
    await settle()
    peer.close()
    await settle()


@connected
async def half_close_with_a_queue(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.set_write_buffer_limits(high=1 << 30)
    transport.write(b"x" * 1000000)
    transport.write_eof()
    await settle()
    trace(await collect(peer))
    transport.close()
    await settle()


@connected
async def write_after_write_eof(loop, trace):
    loop.set_exception_handler(lambda loop, context: trace("refused"))
    transport, peer = await connect(loop, trace)
    transport.write_eof()
    try:
        transport.write(b"too late")
    except RuntimeError:
        trace("refused")
    await settle()
    transport.close()
    transport.write_eof()
    try:
        transport.write(b"too late")
    except RuntimeError:
        trace("refused")
    await settle()
    trace(received(peer))


@connected
async def another_protocol(loop, trace):
    second = Recorder(trace, "second")

    def data(transport, data):
        second.transport = transport
        transport.set_protocol(second)
        trace("set")

    transport, peer = await connect(loop, trace, name="first", data=data)
    peer.send(b"one")
    await settle()
    peer.send(b"two")
    await settle()
    third = Recorder(trace, "third")
    third.transport = transport
    transport.set_protocol(third)
    await settle()
    peer.send(b"three")
    peer.close()
    await settle()


@connected
async def failing_callbacks(loop, trace):
    trace_reports(loop, trace)
    for callback in ("made", "data", "eof", "lost"):
        trace("--", callback)
        transport, peer = await connect(loop, trace, **{callback: lambda *_: fail()})
        peer.send(b"data")
        await settle()
        peer.close()
        await settle()


@connected
async def written_when_data_comes(loop, trace):
    transport, peer = await connect(loop, trace, data=lambda transport, data: transport.write(data.upper()))
    for text in (b"one", b"two"):
        peer.send(text)
        await settle()
        trace(received(peer))
    peer.close()
    await settle()


@connected
async def written_when_the_connection_ends(loop, trace):
    transport, peer = await connect(
        loop,
        trace,
        keep_open=True,
        eof=lambda transport: transport.write(b"farewell"),
        lost=lambda transport: (transport.write(b"nobody hears"), transport.close(), transport.abort()),
    )
    peer.shutdown(1)
    await settle()
    trace(received(peer))
    transport.close()
    await settle()
    trace(received(peer))


@connected
async def answer_and_close_at_the_end_of_file(loop, trace):
    transport, peer = await connect(loop, trace, eof=lambda transport: transport.write(b"farewell"))
    peer.shutdown(1)
    await settle()
    trace(received(peer))


@connected
async def two_ends_in_one_loop(loop, trace):
    own, other = socket_pair()
    left, _ = await connect(
        loop, trace, sockets=(own, other), name="left", data=lambda transport, data: transport.write_eof()
    )
    right, _ = await connect(
        loop, trace, sockets=(other, own), name="right", data=lambda transport, data: transport.write(data.upper())
    )
    left.write(b"ping")
    await settle()
    await settle()
    trace.yes("left closing", left.is_closing())
    trace.yes("right closing", right.is_closing())


@connected
async def events_of_two_connections_in_one_turn(loop, trace):
    first, first_peer = await connect(loop, trace, name="first")
    second, second_peer = await connect(loop, trace, name="second")
    second_peer.send(b"x")
    first_peer.send(b"y")
    loop.call_soon(trace, "soon")
    loop.call_at(loop.time() - 1, trace, "timer")
    await settle()
    first.close()
    second.abort()
    await settle()


@connected
async def closed_by_another_in_one_turn(loop, trace):
    def data(transport, data):
        second.close()

    first, first_peer = await connect(loop, trace, name="first", data=data)
    second, second_peer = await connect(loop, trace, name="second")
    first_peer.send(b"x")
    second_peer.send(b"y")
    await settle()
