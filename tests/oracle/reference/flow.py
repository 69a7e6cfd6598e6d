"""Flow control of writing, with sizes."""

from .support import Recorder, collect, connect, connected, fail, receive, settle, socket_pair, trace_reports

BLOCK = b"x" * 65536


def fill(transport):
    """Writes until the kernel takes no more, and gives the size of the queue."""
    transport.set_write_buffer_limits(high=1 << 30)
    while not transport.get_write_buffer_size():
        transport.write(BLOCK)
    return transport.get_write_buffer_size()


def limits(trace, transport):
    low, high = transport.get_write_buffer_limits()
    trace("limits", low, high)


@connected
async def pause_and_resume(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.set_write_buffer_limits(high=400000, low=300000)
    transport.write(b"x" * 3000000)
    await settle()
    trace(await collect(peer))
    transport.write(b"x" * 1000000)
    await settle()
    trace(await collect(peer))
    trace("size", transport.get_write_buffer_size())


@connected
async def write_when_the_connection_is_made(loop, trace):
    transport, peer = await connect(loop, trace, made=lambda transport: transport.write(b"x" * 1000000))
    await settle()
    trace(await collect(peer))


@connected
async def write_when_data_comes(loop, trace):
    transport, peer = await connect(loop, trace, data=lambda transport, data: transport.write(b"x" * 1000000))
    peer.send(b"request")
    await settle()
    trace(await collect(peer))


@connected
async def pause_within_a_callback(loop, trace):
    def data(transport, data):
        transport.write(b"x" * 1000000)
        transport.write(BLOCK)
        trace("written")

    transport, peer = await connect(loop, trace, data=data)
    peer.send(b"request")
    await settle()
    trace(await collect(peer))


@connected
async def exactly_at_the_marks(loop, trace):
    transport, peer = await connect(loop, trace)
    size = fill(transport)
    transport.set_write_buffer_limits(high=size + 100, low=0)
    transport.write(b"x" * 100)
    await settle()
    trace("one more")
    transport.write(b"x")
    await settle()
    trace("more yet")
    transport.write(BLOCK)
    await settle()
    trace(await collect(peer))


@connected
async def marks_moved(loop, trace):
    transport, peer = await connect(loop, trace)
    size = fill(transport)
    trace("lowered")
    transport.set_write_buffer_limits(high=size - 1, low=10)
    await settle()
    trace("raised")
    transport.set_write_buffer_limits(high=10 * size, low=5 * size)
    await settle()
    trace("lowered again")
    transport.set_write_buffer_limits(high=10, low=5)
    await settle()
    trace("drained")
    trace(await collect(peer))


@connected
async def marks_as_told(loop, trace):
    transport, peer = await connect(loop, trace)
    limits(trace, transport)
    for high, low in ((100, 10), (100, None), (None, 100), (0, None), (None, 0), (7, 7), (None, None)):
        transport.set_write_buffer_limits(high=high, low=low)
        limits(trace, transport)
    try:
        transport.set_write_buffer_limits(high=10, low=100)
    except ValueError:
        trace("refused")
    limits(trace, transport)


@connected
async def queue_of_zero(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.set_write_buffer_limits(high=0)
    transport.write(b"small")
    await settle()
    trace("fill")
    while not transport.get_write_buffer_size():
        transport.write(BLOCK)
    await settle()
    trace(await collect(peer))


@connected
async def drained_in_steps(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.set_write_buffer_limits(high=1000000, low=500000)
    transport.write(b"x" * 2000000)
    await settle()
    while transport.get_write_buffer_size():
        data, _ = receive(peer)
        trace("size", transport.get_write_buffer_size())
        await settle()
    trace(await collect(peer))


@connected
async def abort_while_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(b"x" * 1000000)
    await settle()
    transport.abort()
    trace("size", transport.get_write_buffer_size())
    trace.yes("closing", transport.is_closing())
    await settle()


@connected
async def close_while_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(b"x" * 1000000)
    await settle()
    transport.close()
    trace.yes("closing", transport.is_closing())
    await settle()
    trace("drained")
    trace(await collect(peer))


@connected
async def close_then_abort_while_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(b"x" * 1000000)
    await settle()
    transport.close()
    await settle()
    transport.abort()
    await settle()
    trace("size", transport.get_write_buffer_size())


@connected
async def close_with_a_queue(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.set_write_buffer_limits(high=1 << 30)
    transport.write(b"x" * 1000000)
    peer.send(b"unheard")
    transport.close()
    await settle()
    trace(await collect(peer))


@connected
async def peer_goes_while_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(b"x" * 1000000)
    await settle()
    receive(peer)
    await settle()
    peer.close()
    await settle()
    trace("size", transport.get_write_buffer_size())


@connected
async def written_when_resumed(loop, trace):
    left = [2]

    def resume(transport):
        if left[0]:
            left[0] -= 1
            transport.write(b"x" * 1000000)

    transport, peer = await connect(loop, trace, resume=resume)
    transport.write(b"x" * 1000000)
    await settle()
    trace(await collect(peer))


@connected
async def closed_when_resumed(loop, trace):
    for step in ("close", "abort"):
        transport, peer = await connect(loop, trace, resume=lambda transport: getattr(transport, step)())
        transport.write(b"x" * 1000000)
        await settle()
        trace(await collect(peer))


@connected
async def closed_when_paused(loop, trace):
    for step in ("close", "abort"):
        transport, peer = await connect(loop, trace, pause=lambda transport: getattr(transport, step)())
        transport.write(b"x" * 1000000)
        await settle()
        trace(await collect(peer))


@connected
async def failing_flow_control(loop, trace):
    trace_reports(loop, trace)
    for callback in ("pause", "resume"):
        transport, peer = await connect(loop, trace, **{callback: lambda transport: fail()})
        transport.write(b"x" * 1000000)
        await settle()
        trace(await collect(peer))
        trace.yes("closing", transport.is_closing())


@connected
async def another_protocol_while_paused(loop, trace):
    transport, peer = await connect(loop, trace, name="first")
    transport.write(b"x" * 1000000)
    await settle()
    second = Recorder(trace, "second")
    second.transport = transport
    transport.set_protocol(second)
    await settle()
    trace(await collect(peer))


@connected
async def reading_while_writing_is_paused(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(b"x" * 1000000)
    await settle()
    peer.send(b"hello")
    await settle()
    trace(await collect(peer))


@connected
async def two_that_feed_each_other(loop, trace):
    own, other = socket_pair()
    left, _ = await connect(
        loop, trace, sockets=(own, other), name="left", made=lambda transport: transport.pause_reading()
    )
    right, _ = await connect(loop, trace, sockets=(other, own), name="right")
    right.write(b"x" * 60000)
    right.write(b"x" * 1000000)
    await settle()
    trace("size", right.get_write_buffer_size())
    left.close()
    await settle()
    await settle()


@connected
async def write_after_close_with_a_queue(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.set_write_buffer_limits(high=1 << 30)
    transport.write(b"x" * 1000000)
    transport.close()
    transport.write(b"too late")
    trace(await collect(peer))


@connected
async def half_close_then_close_with_a_queue(loop, trace):
    transport, peer = await connect(loop, trace)
    transport.write(b"x" * 1000000)
    transport.write_eof()
    await settle()
    transport.close()
    await settle()
    trace(await collect(peer))


@connected
async def written_and_aborted_in_one_callback(loop, trace):
    def data(transport, data):
        transport.write(b"x" * 1000000)
        transport.abort()

    transport, peer = await connect(loop, trace, data=data)
    peer.send(b"request")
    await settle()


@connected
async def written_and_closed_in_one_callback(loop, trace):
    def data(transport, data):
        transport.write(b"x" * 1000000)
        transport.close()

    transport, peer = await connect(loop, trace, data=data)
    peer.send(b"request")
    await settle()
    trace(await collect(peer))
