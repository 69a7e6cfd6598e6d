"""Waiting for several things at once, and for one within a time."""

import asyncio
import gc

from .support import connected, fail, scenario, settle, trace_reports, turn, turns
from .tasks import Guard, told


async def after(trace, name, count):
    """Ends after some turns."""
    with Guard(trace, name):
        for _ in range(count):
            await asyncio.sleep(0)
    return name


async def failing(trace, name, count):
    await after(trace, name, count)
    fail()


async def endless(trace, name):
    with Guard(trace, name):
        await asyncio.sleep(1000)


@connected
async def gather_in_order(loop, trace):
    results = await asyncio.gather(*(after(trace, name, count) for name, count in (("a", 3), ("b", 0), ("c", 1))))
    trace(*results)
    trace(len(await asyncio.gather()))


@scenario
def gather_turn_by_turn(loop, trace):
    async def main():
        trace("begins")
        trace(*await asyncio.gather(after(trace, "a", 0), after(trace, "b", 1)))

    task = loop.create_task(main())
    turns(loop, trace, 6)
    trace.yes("done", task.done())


@connected
async def gather_with_an_error(loop, trace):
    trace_reports(loop, trace)
    try:
        await asyncio.gather(after(trace, "a", 9), failing(trace, "b", 1), failing(trace, "c", 5))
    except ValueError:
        trace("error")
    await settle()
    await settle()
    trace("end")


@connected
async def gather_of_results_and_errors(loop, trace):
    async def cancelled():
        asyncio.current_task().cancel()
        await endless(trace, "c")

    children = after(trace, "a", 3), failing(trace, "b", 1), cancelled()
    for result in await asyncio.gather(*children, return_exceptions=True):
        trace("cancelled" if isinstance(result, asyncio.CancelledError) else result if result == "a" else "error")


@connected
async def gather_with_a_cancelled_child(loop, trace):
    child = loop.create_task(endless(trace, "a"))

    async def main():
        try:
            await asyncio.gather(child, after(trace, "b", 9))
        except asyncio.CancelledError:
            trace("error: cancelled")

    task = loop.create_task(main())
    await settle()
    child.cancel()
    await settle()
    trace.yes("done", task.done())
    trace.yes("cancelled", task.cancelled())


@connected
async def gather_that_is_cancelled(loop, trace):
    whole = asyncio.gather(endless(trace, "a"), after(trace, "b", 0), endless(trace, "c"))

    async def wait():
        try:
            await whole
        except asyncio.CancelledError:
            trace("error: cancelled")

    task = loop.create_task(wait())
    await settle()
    trace.yes("cancel", whole.cancel())
    trace.yes("cancel again", whole.cancel())
    trace("children go first")
    await task
    trace.yes("cancel when done", whole.cancel())


@connected
async def gather_cancelled_when_all_is_done(loop, trace):
    whole = asyncio.gather(after(trace, "a", 0), after(trace, "b", 1))
    await settle()
    trace.yes("cancel", whole.cancel())
    trace(*await whole)


async def waiting(trace, tasks, **arguments):
    done, pending = await asyncio.wait(tasks, **arguments)
    for what, those in ("done:", done), ("pending:", pending):
        trace(what, *sorted(task.get_name() for task in those))


@connected
async def wait_for_all(loop, trace):
    bodies = after(trace, "a", 2), failing(trace, "b", 1), endless(trace, "c")
    tasks = [loop.create_task(body, name=name) for name, body in zip("abc", bodies)]
    loop.call_soon(tasks[2].cancel)
    await waiting(trace, tasks)


@connected
async def wait_for_the_first(loop, trace):
    bodies = after(trace, "a", 12), after(trace, "b", 1), after(trace, "c", 1), endless(trace, "d")
    tasks = [loop.create_task(body, name=name) for name, body in zip("abcd", bodies)]
    await waiting(trace, tasks, return_when=asyncio.FIRST_COMPLETED)
    tasks[3].cancel()
    await waiting(trace, [tasks[0], tasks[3]], return_when=asyncio.FIRST_COMPLETED)
    await waiting(trace, tasks, return_when=asyncio.FIRST_COMPLETED)


@connected
async def wait_for_the_first_error(loop, trace):
    bodies = after(trace, "a", 1), endless(trace, "b"), failing(trace, "c", 4), endless(trace, "d")
    tasks = [loop.create_task(body, name=name) for name, body in zip("abcd", bodies)]
    loop.call_soon(tasks[1].cancel)
    await waiting(trace, tasks, return_when=asyncio.FIRST_EXCEPTION)
    tasks[3].cancel()
    await settle()


@scenario
def wait_with_a_timeout(loop, trace):
    async def main():
        bodies = after(trace, "a", 1), endless(trace, "b")
        tasks = [loop.create_task(body, name=name) for name, body in zip("ab", bodies)]
        await waiting(trace, tasks, timeout=1)
        trace.yes("cancelled", tasks[1].cancelled())

    task = loop.create_task(main())
    for _ in range(5):
        turn(loop)
    trace.yes("done", task.done())
    loop.advance(1)
    for _ in range(5):
        turn(loop)
    trace.yes("done", task.done())


@connected
async def waiting_is_cancelled(loop, trace):
    tasks = [loop.create_task(after(trace, name, 15), name=name) for name in "ab"]
    tasks[0].add_done_callback(told(trace, "a"))
    waiter = loop.create_task(waiting(trace, tasks))
    await settle()
    waiter.cancel()
    await settle()
    trace.yes("cancelled", waiter.cancelled())
    await settle()


@connected
async def shield_of_a_task(loop, trace):
    async def outer():
        with Guard(trace, "outer"):
            await asyncio.shield(inner)

    inner = loop.create_task(after(trace, "inner", 5))
    inner.add_done_callback(told(trace, "inner"))
    task = loop.create_task(outer())
    await asyncio.sleep(0)
    task.cancel()
    await settle()
    trace.yes("outer cancelled", task.cancelled())
    trace(await asyncio.shield(loop.create_task(after(trace, "another", 0))))


@connected
async def shield_of_a_task_that_is_cancelled(loop, trace):
    async def outer():
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            trace("error: cancelled")

    inner = loop.create_task(endless(trace, "inner"))
    task = loop.create_task(outer())
    await settle()
    inner.cancel()
    await task


@connected
async def error_behind_a_shield(loop, trace):
    trace_reports(loop, trace)

    async def outer(inner):
        with Guard(trace, "outer"):
            await asyncio.shield(inner)

    task = loop.create_task(outer(loop.create_task(failing(trace, "inner", 3))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await settle()
    # What is left of it has a traceback, which knows the inner task.
    del task
    gc.collect()
    trace("end")


@connected
async def completed_in_order(loop, trace):
    counts = {"a": 8, "b": 0, "c": 4}
    tasks = [loop.create_task(after(trace, name, count)) for name, count in counts.items()]
    for next in asyncio.as_completed(tasks):
        trace("next", await next)


@scenario
def completed_within_a_time(loop, trace):
    async def main():
        tasks = [loop.create_task(body) for body in (endless(trace, "a"), after(trace, "b", 1))]
        tasks[0].add_done_callback(told(trace, "a"))
        try:
            for next in asyncio.as_completed(tasks, timeout=1):
                trace("next", await next)
        except TimeoutError:
            trace("timeout")
        trace.yes("cancel", tasks[0].cancel())

    task = loop.create_task(main())
    for _ in range(5):
        turn(loop)
    loop.advance(1)
    for _ in range(5):
        turn(loop)
    trace.yes("done", task.done())


def limited(loop, trace, body):
    """Waits for a task for a second, and has it run half a minute."""

    async def main():
        try:
            trace(await asyncio.wait_for(loop.create_task(body), 1))
        except TimeoutError:
            trace("timeout")
        except asyncio.CancelledError:
            trace("error: cancelled")
        except ValueError:
            trace("error")

    task = loop.create_task(main())
    for _ in range(5):
        turn(loop)
    loop.advance(1)
    for _ in range(5):
        turn(loop)
    trace.yes("done", task.done())
    loop.advance(29)
    for _ in range(5):
        turn(loop)
    trace.yes("done", task.done())


@scenario
def wait_for_in_time(loop, trace):
    limited(loop, trace, after(trace, "body", 1))


@scenario
def wait_for_too_long(loop, trace):
    limited(loop, trace, endless(trace, "body"))


async def until_asked(trace):
    """Waits until it is cancelled, and catches that."""
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        trace("asked")
    await asyncio.sleep(20)
    trace("cleaned up")


@scenario
def wait_for_a_value_in_spite_of_it(loop, trace):
    async def body():
        await until_asked(trace)
        return "value"

    limited(loop, trace, body())


@scenario
def wait_for_an_error_in_spite_of_it(loop, trace):
    async def body():
        await until_asked(trace)
        fail()

    limited(loop, trace, body())


@scenario
def wait_for_a_cancelled_task(loop, trace):
    async def body():
        asyncio.current_task().cancel()
        await endless(trace, "body")

    limited(loop, trace, body())


@connected
async def wait_for_without_time(loop, trace):
    async def body():
        trace("not reached")

    try:
        await asyncio.wait_for(loop.create_task(body()), 0)
    except TimeoutError:
        trace("timeout")
    done = loop.create_task(after(trace, "done", 0))
    await settle()
    trace(await asyncio.wait_for(done, 0))
    shielded = loop.create_task(after(trace, "shielded", 3))
    try:
        await asyncio.wait_for(asyncio.shield(shielded), 0)
    except TimeoutError:
        trace("timeout")
    trace(await shielded)
