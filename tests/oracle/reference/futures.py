"""Futures that somebody completes."""

import asyncio

from .support import fail, scenario, trace_reports, turns


@scenario
def awaiting_a_done_future_takes_no_turn(loop, trace):
    done = loop.create_future()
    done.set_result("value")

    async def body():
        trace("begins")
        trace(await done)
        trace(await done)

    task = loop.create_task(body())
    turns(loop, trace, 2)
    trace.yes("done", task.done())


@scenario
def done_callbacks_of_a_future(loop, trace):
    future = loop.create_future()

    def first(future):
        trace("first", future.result())
        future.add_done_callback(lambda future: trace("added meanwhile"))

    future.add_done_callback(first)
    future.add_done_callback(lambda future: trace("second"))
    future.set_result("value")
    loop.call_soon(trace, "soon")
    future.add_done_callback(lambda future: trace("late"))
    turns(loop, trace, 2)


@scenario
def failing_done_callback(loop, trace):
    trace_reports(loop, trace)
    future = loop.create_future()
    future.add_done_callback(lambda future: fail())
    future.add_done_callback(lambda future: trace("second"))
    future.set_result(None)
    turns(loop, trace, 1)


@scenario
def removed_done_callbacks(loop, trace):
    future = loop.create_future()

    def remove(future):
        trace("a")
        # It is on its way already.
        trace.yes("removed", future.remove_done_callback(last))

    def middle(future):
        trace("b")

    def last(future):
        trace("c")

    future.add_done_callback(remove)
    future.add_done_callback(middle)
    future.add_done_callback(last)
    trace.yes("removed", future.remove_done_callback(middle))
    trace.yes("removed again", future.remove_done_callback(middle))
    future.set_result(None)
    turns(loop, trace, 1)


@scenario
def awaiters_of_a_future(loop, trace):
    future = loop.create_future()

    async def wait(name):
        trace(name, "waits")
        trace(name, await future)

    tasks = [loop.create_task(wait(name)) for name in "xyz"]
    turns(loop, trace, 1)
    loop.call_soon(trace, "before")
    future.set_result("value")
    loop.call_soon(trace, "after")
    turns(loop, trace, 2)
    trace.yes("all done", all(task.done() for task in tasks))


@scenario
def awaiters_and_callbacks_of_a_future(loop, trace):
    future = loop.create_future()

    async def wait(name):
        await future
        trace(name)

    future.add_done_callback(lambda future: trace("callback 1"))
    tasks = [loop.create_task(wait("task 1"))]
    turns(loop, trace, 1)
    future.add_done_callback(lambda future: trace("callback 2"))
    tasks.append(loop.create_task(wait("task 2")))
    turns(loop, trace, 1)
    future.add_done_callback(lambda future: trace("callback 3"))
    future.set_result(None)
    turns(loop, trace, 1)
    trace.yes("all done", all(task.done() for task in tasks))


@scenario
def states_of_a_future(loop, trace):
    def tried(what, function, *arguments):
        try:
            function(*arguments)
            trace(what, "taken")
        except asyncio.InvalidStateError:
            trace(what, "refused")
        except asyncio.CancelledError:
            trace(what, "cancelled")
        except ValueError:
            trace(what, "error")

    def examine(name, future):
        trace(name)
        trace.yes("done", future.done())
        trace.yes("cancelled", future.cancelled())
        tried("result", future.result)
        tried("set_result", future.set_result, "other")
        tried("set_exception", future.set_exception, ValueError())
        trace.yes("cancel", future.cancel())
        tried("result", future.result)

    with_result, with_error, cancelled = (loop.create_future() for _ in range(3))
    with_result.set_result("value")
    with_error.set_exception(ValueError())
    trace.yes("cancel", cancelled.cancel())
    examine("result", with_result)
    examine("error", with_error)
    examine("cancelled", cancelled)
    pending = loop.create_future()
    trace.yes("done", pending.done())
    tried("result", pending.result)


@scenario
def awaiting_what_ends_badly(loop, trace):
    futures = {"error": loop.create_future(), "cancelled": loop.create_future()}

    async def wait(name):
        try:
            await futures[name]
        except ValueError:
            trace(name, "gives an error")
        except asyncio.CancelledError:
            trace(name, "is cancelled")

    tasks = [loop.create_task(wait(name)) for name in futures]
    turns(loop, trace, 1)
    futures["cancelled"].cancel()
    futures["error"].set_exception(ValueError())
    turns(loop, trace, 1)
    trace.yes("all done", all(task.done() for task in tasks))


@scenario
def error_of_a_future_that_nobody_sees(loop, trace):
    trace_reports(loop, trace)
    seen, unseen, cancelled = ([loop.create_future()] for _ in range(3))
    for holder in (seen, unseen, cancelled):
        holder[0].set_exception(ValueError())
    seen[0].exception()
    cancelled[0].cancel()
    for holder, name in ((seen, "seen"), (unseen, "unseen"), (cancelled, "cancelled")):
        trace(name)
        holder.clear()
    trace("end")
