"""The orderly end of asyncio.run()."""

import asyncio
import functools
import threading

from .combining import endless, failing
from .generators import numbers
from .graceful import until_asked
from .support import fail, scenario
from .tasks import told


def ending(function):
    """A scenario that is the main coroutine of a run on the loop."""

    @functools.wraps(function)
    def whole(loop, trace):
        run(loop, trace, function(loop, trace))

    return scenario(whole)


def run(loop, trace, main):
    """Runs a coroutine on the loop, and ends that."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            trace(runner.run(main))
        except ValueError:
            trace("error")
    trace.yes("closed", loop.is_closed())
    LEFT.clear()


# What is to be there until the end of a run.
LEFT = []


@ending
async def end_with_a_task(loop, trace):
    task = loop.create_task(endless(trace, "left"))
    task.add_done_callback(told(trace, "left"))
    await asyncio.sleep(0)
    loop.call_soon(trace, "soon")
    trace("main ends")
    return "result"


@ending
async def end_with_a_task_that_just_begins(loop, trace):
    task = loop.create_task(endless(trace, "left"))
    task.add_done_callback(told(trace, "left"))
    trace("main ends")
    return "result"


@ending
async def end_with_a_task_that_cleans_up(loop, trace):
    async def body():
        await until_asked(trace)
        await asyncio.sleep(0)
        trace("cleaned up")

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "left"))
    await asyncio.sleep(0)
    trace("main ends")
    return "result"


@ending
async def end_with_a_task_that_fails(loop, trace):
    async def body():
        await until_asked(trace)
        fail()

    loop.set_exception_handler(lambda loop, context: trace("reported"))
    generator = numbers(trace, "generator")
    LEFT.append(generator)
    trace(await anext(generator))
    loop.create_task(body())
    await asyncio.sleep(0)
    trace("main ends")
    return "result"


@ending
async def end_with_a_task_that_starts_another(loop, trace):
    async def body():
        await until_asked(trace)
        second = loop.create_task(endless(trace, "second"))
        second.add_done_callback(told(trace, "second"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        trace("cleaned up")

    loop.create_task(body())
    await asyncio.sleep(0)
    trace("main ends")
    return "result"


@ending
async def end_with_a_generator(loop, trace):
    generator = numbers(trace, "generator")
    LEFT.append(generator)
    trace(await anext(generator))
    loop.create_task(endless(trace, "task"))
    await asyncio.sleep(0)
    trace("main ends")
    return "result"


@scenario
def end_with_a_job(loop, trace):
    async def main():
        loop.run_in_executor(None, lambda: (hold.wait(), ended.append(True)))
        generator = numbers(trace, "generator", hold.set)
        LEFT.append(generator)
        trace(await anext(generator))
        trace("main ends")
        return "result"

    hold, ended = threading.Event(), []
    run(loop, trace, main())
    trace.yes("job ended", ended)


@ending
async def end_of_a_main_that_fails(loop, trace):
    loop.create_task(endless(trace, "task"))
    await failing(trace, "main", 1)
