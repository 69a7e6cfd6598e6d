"""Child processes: what is told of them, and when."""

import asyncio
import signal

from .support import connected, describe, scenario, settle

PIPE = asyncio.subprocess.PIPE
# Ends, and leaves a child that has its pipes until it has read a line.
LEAVES_A_CHILD = "exec 3<&0; (read x <&3; echo late $x) & exit 4"


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


class Told(asyncio.SubprocessProtocol):
    """Leaves a line for what has an order of its own, and keeps the rest: the ends of pipes and of the process, which may come
    in any order."""

    def __init__(self, trace, made=None):
        self.trace = trace
        self.made = made
        self.data = {1: b"", 2: b""}
        self.rest = []
        self.is_over = False

    def connection_made(self, transport):
        self.transport = transport
        self.trace("made")
        if self.made is not None:
            self.made(transport)

    def pipe_data_received(self, fd, data):
        self.data[fd] += data

    def pipe_connection_lost(self, fd, error):
        self.rest.append(f"pipe {fd} lost {kind(error)}")

    def pause_writing(self):
        self.trace("pause")

    def resume_writing(self):
        self.trace("resume")

    def process_exited(self):
        self.rest.append(f"exited {self.transport.get_returncode()}")

    def connection_lost(self, error):
        self.tell()
        self.trace("lost", kind(error))
        self.is_over = True

    def tell(self, *, in_order=False):
        """Leaves the lines that were kept."""
        for fd, data in self.data.items():
            if data:
                self.trace(f"data {fd} {describe(data)}")
                self.data[fd] = b""
        for line in self.rest if in_order else sorted(self.rest):
            self.trace(line)
        self.rest.clear()

    async def over(self):
        await until(lambda: self.is_over)


def kind(error):
    if error is None:
        return "None"
    if isinstance(error, (BrokenPipeError, ConnectionResetError)):
        return "broken"
    return "error"


def attempt(trace, what, call):
    """Leaves a line with the outcome of sending a signal."""
    try:
        call()
    except ProcessLookupError:
        trace(what, "finds no process")
    else:
        trace(what, "is sent")


async def shell(loop, trace, command, made=None, **streams):
    transport, protocol = await loop.subprocess_shell(lambda: Told(trace, made), command, **streams)
    return transport, protocol


def piped(command):
    return asyncio.create_subprocess_shell(command, stdin=PIPE, stdout=PIPE, stderr=PIPE)


@connected
async def process_from_beginning_to_end(loop, trace):
    transport, told = await shell(loop, trace, "echo out; echo err >&2; exit 3")
    await told.over()
    trace("returncode", transport.get_returncode())


@connected
async def process_whose_pipes_are_held(loop, trace):
    transport, told = await shell(loop, trace, LEAVES_A_CHILD)
    await until(lambda: transport.get_returncode() is not None)
    await settle()
    told.tell()
    trace.yes("closing", transport.is_closing())
    transport.get_pipe_transport(0).write(b"word\n")
    await told.over()


@connected
async def process_waited_for_while_a_pipe_is_held(loop, trace):
    process = await piped("read y; " + LEAVES_A_CHILD)
    wait = loop.create_task(process.wait())
    await settle()
    process.stdin.write(b"\n")
    await until(lambda: process.returncode is not None)
    await settle()
    trace.yes("waited", wait.done())
    trace("later", await process.wait())
    process.stdin.write(b"word\n")
    trace("waited", await wait)
    trace("read", describe(await process.stdout.read()))


@connected
async def process_signals(loop, trace):
    for what in "kill", "terminate", "hangup":
        process = await piped("echo ready; exec cat")
        trace(describe(await process.stdout.readline()))
        trace.yes("ended", process.returncode is not None)
        if what == "hangup":
            process.send_signal(signal.SIGHUP)
        else:
            getattr(process, what)()
        trace(what, await process.wait(), process.returncode)


@connected
async def process_is_closed(loop, trace):
    transport, told = await shell(loop, trace, "exec cat")
    trace("started")
    transport.close()
    trace.yes("closing", transport.is_closing())
    transport.close()
    loop.call_soon(trace, "soon")
    await until(lambda: transport.get_returncode() is not None)
    told.tell(in_order=True)
    await told.over()
    trace("returncode", transport.get_returncode())
    transport.close()
    await settle()


@connected
async def process_whose_input_ends(loop, trace):
    transport, told = await shell(loop, trace, "cat; echo end; exit 7")
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"input ")
    trace.yes("can", stdin.can_write_eof())
    stdin.write_eof()
    trace.yes("closing", stdin.is_closing())
    stdin.write(b"too late")
    await told.over()


@connected
async def process_whose_errors_go_to_its_output(loop, trace):
    streams = {"stdin": None, "stderr": asyncio.subprocess.STDOUT}
    transport, told = await shell(loop, trace, "echo out; echo err >&2; echo out again", **streams)
    for fd in 0, 1, 2, 3:
        trace.yes(f"pipe {fd}", transport.get_pipe_transport(fd) is not None)
    await told.over()


@connected
async def process_without_pipes(loop, trace):
    nothing = asyncio.subprocess.DEVNULL
    transport, told = await shell(loop, trace, "cat; echo out; exit 1", stdin=nothing, stdout=nothing, stderr=nothing)
    trace.yes("pipe", any(transport.get_pipe_transport(fd) is not None for fd in (0, 1, 2)))
    await told.over()


@connected
async def process_is_paused(loop, trace):
    def made(transport):
        transport.get_pipe_transport(1).pause_reading()

    transport, told = await shell(loop, trace, "read x; echo out; echo err >&2; exit 3", made)
    transport.get_pipe_transport(0).write(b"\n")
    await until(lambda: len(told.rest) == 3)
    await settle()
    told.tell()
    trace("resumed")
    transport.get_pipe_transport(1).resume_reading()
    await told.over()


@connected
async def process_whose_output_we_close(loop, trace):
    command = "trap '' PIPE; read x; (echo lost) 2>/dev/null || echo failed >&2; read x; exit 6"
    transport, told = await shell(loop, trace, command)
    transport.get_pipe_transport(1).close()
    await settle()
    told.tell()
    transport.get_pipe_transport(0).write(b"\n")
    await until(lambda: told.data[2].endswith(b"\n"))
    told.tell()
    transport.get_pipe_transport(0).write(b"\n")
    await told.over()


@connected
async def process_that_closes_its_input(loop, trace):
    transport, told = await shell(loop, trace, "exec <&-; echo closed; exec sleep 1000")
    await until(lambda: told.data[1] and told.rest)
    told.tell()
    stdin = transport.get_pipe_transport(0)
    trace.yes("closing", stdin.is_closing())
    stdin.write(b"too late")
    transport.kill()
    await told.over()


@connected
async def process_that_reads_slowly(loop, trace):
    transport, told = await shell(loop, trace, "read x; wc -c; exit 2")
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"x" * 1000000)
    await settle()
    trace("begins")
    stdin.write(b"\n1234567")
    stdin.write_eof()
    await told.over()


@connected
async def process_that_communicates(loop, trace):
    for given in b"data", b"":
        process = await piped("cat; echo err >&2; exit 5")
        out, err = await process.communicate(given)
        trace(describe(out), describe(err), process.returncode)
    process = await asyncio.create_subprocess_shell("exit 4")
    trace(*await process.communicate(), process.returncode)
    process = await piped("echo out; exit 3")
    out, err = await process.communicate(b"x" * 1000000)
    trace(describe(out), describe(err), process.returncode)
    process = await piped("cat; kill -TERM $$")
    out, err = await process.communicate(b"x" * 1000000)
    trace(describe(out), describe(err), process.returncode)


@scenario(since=(3, 12))
def process_that_communicates_without_input(loop, trace):
    async def communicate():
        process = await piped("cat; exit 5")
        out, err = await process.communicate()
        trace(describe(out), describe(err), process.returncode)

    loop.run_until_complete(communicate())


@connected
async def process_after_its_end(loop, trace):
    transport, told = await shell(loop, trace, "exit 2", stdin=None, stdout=None, stderr=None)
    await told.over()
    await settle()
    trace.yes("closing", transport.is_closing())


@connected
async def process_that_is_gone(loop, trace):
    transport, told = await shell(loop, trace, "exit 2")
    await told.over()
    await settle()
    attempt(trace, "signal", lambda: transport.send_signal(signal.SIGUSR1))
    attempt(trace, "terminate", transport.terminate)
    attempt(trace, "kill", transport.kill)
    process = await piped("exit 2")
    await process.communicate()
    await settle()
    attempt(trace, "kill", process.kill)
    trace("wait", await process.wait())


@connected
async def process_whose_wait_is_cancelled(loop, trace):
    process = await piped("exec cat")
    waits = [loop.create_task(process.wait()) for _ in range(3)]
    await settle()
    waits[0].cancel()
    await settle()
    trace.yes("cancelled", waits[0].cancelled())
    trace.yes("ended", process.returncode is not None)
    process.stdin.close()
    trace(await waits[1], await waits[2], await process.wait())


@connected
async def process_that_cannot_be_started(loop, trace):
    def factory():
        trace("factory")
        return Told(trace)

    for program, directory in (("/no/such/program", None), ("/bin/sh", "/no/such/directory"), ("/dev/null", None)):
        try:
            await loop.subprocess_exec(factory, program, cwd=directory)
        except FileNotFoundError:
            trace("not found")
        except PermissionError:
            trace("not permitted")
    await settle()
