"""One end of a pipe."""

import os
import pty

from .support import KEPT, Recorder, connected, describe, settle, socket_pair, trace_reports


def keep(descriptor, mode):
    file = open(descriptor, mode, buffering=0)
    KEPT.append(file)
    return file


def pipe():
    """A pipe whose ends do not block."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return keep(reader, "rb"), keep(writer, "wb")


def fill(writer):
    """Writes until there is no room."""
    while writer.write(b"x" * 4096):
        pass


async def reading(loop, trace, **recorder):
    """A recorded reading end, and the other one."""
    reader, writer = pipe()
    transport, _ = await loop.connect_read_pipe(lambda: Recorder(trace, **recorder), reader)
    return transport, writer


async def writing(loop, trace, *, full=False, **recorder):
    """A recorded writing end, and the other one."""
    reader, writer = pipe()
    if full:
        fill(writer)
    transport, _ = await loop.connect_write_pipe(lambda: Recorder(trace, **recorder), writer)
    return transport, reader


def received(reader):
    """What has arrived, and whether that was all, as a text."""
    data, piece = b"", b""
    while True:
        piece = reader.read(1 << 20)
        if not piece:
            return describe(data) + (" eof" if piece == b"" else "")
        data += piece


@connected
async def writer_closes_a_pipe(loop, trace):
    def eof(transport):
        trace.yes("closing", transport.is_closing())
        loop.call_soon(trace, "soon")

    transport, writer = await reading(loop, trace, eof=eof)
    trace("connected")
    writer.write(b"last words")
    writer.close()
    await settle()
    trace.yes("closing", transport.is_closing())


@connected
async def end_of_a_pipe_cannot_be_kept_open(loop, trace):
    transport, writer = await reading(loop, trace, keep_open=True)
    writer.close()
    await settle()
    transport.close()
    await settle()


@connected
async def pipe_that_has_ended_before(loop, trace):
    reader, writer = pipe()
    writer.write(b"early")
    writer.close()
    await loop.connect_read_pipe(lambda: Recorder(trace), reader)
    trace("connected")
    await settle()


@connected
async def reader_of_a_pipe_goes_away(loop, trace):
    transport, reader = await writing(loop, trace)
    transport.write(b"into the pipe")
    reader.close()
    await settle()
    trace.yes("closing", transport.is_closing())
    transport.write(b"too late")
    transport.write_eof()
    transport.close()
    await settle()


@connected
async def reader_of_a_full_pipe_goes_away(loop, trace):
    transport, reader = await writing(loop, trace, full=True)
    transport.write(b"x" * 100000)
    await settle()
    reader.close()
    await settle()


@connected
async def write_fails_before_the_reader_is_missed(loop, trace):
    trace_reports(loop, trace)
    transport, reader = await writing(loop, trace)
    reader.close()
    transport.write(b"x")
    trace.yes("closing", transport.is_closing())
    transport.write(b"y")
    await settle()


@connected
async def write_eof_on_a_pipe(loop, trace):
    transport, reader = await writing(loop, trace)
    trace.yes("can", transport.can_write_eof())
    transport.write(b"all")
    transport.write_eof()
    trace.yes("closing", transport.is_closing())
    transport.write_eof()
    transport.close()
    transport.write(b"too late")
    loop.call_soon(trace, "soon")
    await settle()
    trace(received(reader))


@connected
async def write_eof_on_a_full_pipe(loop, trace):
    transport, reader = await writing(loop, trace, full=True)
    transport.write(b"the rest")
    transport.write_eof()
    trace.yes("closing", transport.is_closing())
    await settle()
    trace("size", transport.get_write_buffer_size())
    trace(received(reader))
    await settle()
    trace(received(reader))


@connected
async def abort_a_full_pipe(loop, trace):
    transport, reader = await writing(loop, trace, full=True)
    transport.write(b"never")
    transport.abort()
    await settle()
    trace(received(reader))


@connected
async def flow_control_of_a_pipe(loop, trace):
    transport, reader = await writing(loop, trace, full=True)
    transport.set_write_buffer_limits(high=100, low=10)
    transport.write(b"x" * 100)
    await settle()
    transport.write(b"x")
    await settle()
    trace(received(reader))
    await settle()
    trace(received(reader))
    transport.close()
    await settle()


@connected
async def pause_and_resume_a_pipe(loop, trace):
    transport, writer = await reading(loop, trace)
    transport.pause_reading()
    transport.pause_reading()
    writer.write(b"held back")
    await settle()
    trace("resumed")
    transport.resume_reading()
    transport.resume_reading()
    await settle()
    transport.pause_reading()
    writer.close()
    await settle()
    trace("resumed")
    transport.resume_reading()
    await settle()
    transport.pause_reading()
    transport.resume_reading()


@connected
async def close_a_reading_end(loop, trace):
    transport, writer = await reading(loop, trace, data=lambda transport, data: transport.close())
    writer.write(b"one")
    await settle()
    try:
        writer.write(b"two")
    except BrokenPipeError:
        trace("broken")


@connected
async def peer_of_a_writing_end_ends_its_side(loop, trace):
    own, peer = socket_pair()
    transport, _ = await loop.connect_write_pipe(lambda: Recorder(trace), own)
    await settle()
    peer.shutdown(1)
    await settle()


@connected
async def terminal_hangs_up(loop, trace):
    trace_reports(loop, trace)
    master, slave = pty.openpty()
    master = keep(master, "rb")
    slave = keep(slave, "wb")
    await loop.connect_read_pipe(lambda: Recorder(trace), master)
    slave.write(b"bye")
    await settle()
    slave.close()
    await settle()
