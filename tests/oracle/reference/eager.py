"""Tasks that begin where they are made."""

import asyncio
import functools

from .combining import after, endless, failing
from .groups import told
from .support import scenario, settle, trace_reports
from .tasks import Guard, variable
from .tasks import told as told_at_the_end


def eager(function):
    """A scenario that runs in a coroutine whose tasks are eager."""

    @functools.wraps(function)
    def run(loop, trace):
        main = loop.create_task(function(loop, trace))
        loop.set_task_factory(asyncio.eager_task_factory)
        loop.run_until_complete(main)

    return scenario(run, since=(3, 12))


@eager
async def eager_task_ends_at_once(loop, trace):
    async def body():
        trace("body")
        return "value"

    loop.call_soon(trace, "soon")
    task = loop.create_task(body())
    trace.yes("done", task.done())
    task.add_done_callback(told_at_the_end(trace, "task"))
    trace(await task)
    trace.yes("cancel", task.cancel())
    await settle()


@eager
async def eager_task_that_waits(loop, trace):
    async def body(name, count):
        for number in range(count):
            trace(name, number)
            await asyncio.sleep(0)
        trace(name, "ends")

    loop.call_soon(trace, "soon")
    tasks = [loop.create_task(body(name, 2)) for name in "xy"]
    trace("made")
    for task in tasks:
        trace.yes("done", task.done())
        await task


@eager
async def eager_tasks_one_in_the_other(loop, trace):
    def say(where):
        trace.yes(f"{where}: is main's", asyncio.current_task() is main)
        trace("tasks:", len(asyncio.all_tasks()))

    async def inner():
        say("inner")

    async def outer():
        say("outer")
        loop.create_task(inner())
        say("outer")
        await asyncio.sleep(0)
        say("outer")

    main = asyncio.current_task()
    task = loop.create_task(outer())
    say("main")
    await task
    say("main")


@eager
async def eager_tasks_and_contexts(loop, trace):
    async def body():
        trace("body", variable.get())
        variable.set("body's")
        await asyncio.sleep(0)
        trace("body", variable.get())

    variable.set("main's")
    task = loop.create_task(body())
    trace("main", variable.get())
    variable.set("main's second")
    await task
    trace("main", variable.get())


@eager
async def eager_task_is_cancelled(loop, trace):
    task = loop.create_task(endless(trace, "body"))
    task.add_done_callback(told_at_the_end(trace, "task"))
    trace.yes("cancel", task.cancel())
    trace.yes("done", task.done())
    await settle()


@eager
async def eager_task_that_fails(loop, trace):
    trace_reports(loop, trace)
    task = loop.create_task(failing(trace, "body", 0))
    trace.yes("done", task.done())
    try:
        await task
    except ValueError:
        trace("error")


@eager
async def eager_children_of_a_group(loop, trace):
    async def body(group):
        group.create_task(after(trace, "a", 0))
        group.create_task(endless(trace, "b"))
        group.create_task(failing(trace, "c", 0))
        trace("body goes on")
        with Guard(trace, "body"):
            await asyncio.sleep(1000)

    await told(trace, body)


@eager
async def eager_children_of_a_gather(loop, trace):
    whole = asyncio.gather(after(trace, "a", 1), after(trace, "b", 0))
    trace("made")
    trace(*await whole)
    trace(*await asyncio.gather(after(trace, "c", 0), after(trace, "d", 0)))
