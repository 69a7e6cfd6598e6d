"""Callbacks and turns."""

import asyncio
import contextvars
import threading

from .support import fail, scenario, socket_pair, trace_reports, turn, turns


@scenario
def call_soon_in_order(loop, trace):
    def nesting():
        trace("b")
        loop.call_soon(nested)
        loop.call_soon(trace, "b2")

    def nested():
        trace("b1")
        loop.call_soon(trace, "b1a")

    loop.call_soon(trace, "a")
    loop.call_soon(nesting)
    loop.call_soon(trace, "c")
    turns(loop, trace, 4)


@scenario
def ready_then_io_then_timers(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")
    now = loop.time()
    loop.call_at(now - 1, trace, "late timer")
    loop.call_at(now - 2, trace, "early timer")
    loop.call_later(0, trace, "timer of zero")
    loop.add_reader(own, trace, "reader")
    loop.call_soon(trace, "soon")
    loop.call_soon(trace, "soon too")
    turns(loop, trace, 1)
    loop.remove_reader(own)


@scenario
def io_and_timers_are_not_starved(loop, trace):
    own, peer = socket_pair()

    def again(left):
        trace("busy", left)
        if left == 3:
            peer.send(b"x")
            loop.call_at(loop.time(), trace, "timer")
        if left:
            loop.call_soon(again, left - 1)

    def read():
        trace("reader")
        loop.remove_reader(own)

    loop.add_reader(own, read)
    loop.call_soon(again, 5)
    turns(loop, trace, 6)


@scenario
def cancel_within_the_batch(loop, trace):
    handles = {}

    def first():
        trace("first")
        handles["second"].cancel()
        handles["self"].cancel()
        handles["next"] = loop.call_soon(trace, "next")

    def third():
        trace("third")
        handles["next"].cancel()

    handles["self"] = loop.call_soon(first)
    handles["second"] = loop.call_soon(trace, "second")
    loop.call_soon(third)
    turns(loop, trace, 2)
    trace.yes("second cancelled", handles["second"].cancelled())
    trace.yes("next cancelled", handles["next"].cancelled())


@scenario
def cancel_expired_timers_within_the_batch(loop, trace):
    handles = {}
    now = loop.time()

    def soon():
        trace("soon")
        handles["a"].cancel()

    def timer():
        trace("b")
        handles["c"].cancel()
        handles["soon"] = loop.call_soon(trace, "soon too")

    def last():
        trace("d")
        handles["soon"].cancel()

    handles["a"] = loop.call_at(now - 4, trace, "a")
    loop.call_at(now - 3, timer)
    handles["c"] = loop.call_at(now - 2, trace, "c")
    loop.call_at(now - 1, last)
    loop.call_soon(soon)
    turns(loop, trace, 2)


@scenario
def failing_callback_in_the_batch(loop, trace):
    trace_reports(loop, trace)
    loop.call_soon(trace, "a")
    loop.call_soon(fail)
    loop.call_soon(trace, "b")
    loop.call_at(loop.time() - 1, fail)
    loop.call_soon(trace, "c")
    turns(loop, trace, 2)


@scenario
def failing_handler_of_exceptions(loop, trace):
    def handler(loop, context):
        trace("handler")
        fail()

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    loop.call_soon(trace, "b")
    turns(loop, trace, 1)


@scenario
def handler_of_exceptions_that_uses_the_loop(loop, trace):
    def second(loop, context):
        trace("second handler")
        loop.stop()

    def first(loop, context):
        trace("first handler")
        loop.call_soon(trace, "scheduled")
        loop.set_exception_handler(second)

    loop.set_exception_handler(first)
    loop.call_soon(fail)
    loop.call_soon(trace, "a")
    loop.call_soon(fail)
    loop.call_soon(trace, "b")
    loop.run_forever()
    trace("stopped")
    turns(loop, trace, 1)


@scenario(since=(3, 12))
def handler_of_exceptions_in_a_context(loop, trace):
    var = contextvars.ContextVar("var", default="none")

    def handler(loop, context):
        trace(f"reported in {var.get()}")

    def failing():
        var.set("the callback's own")
        fail()

    loop.set_exception_handler(handler)
    context = contextvars.copy_context()
    context.run(var.set, "the callback's")
    loop.call_soon(fail, context=context)
    loop.call_soon(failing, context=context.copy())
    loop.call_soon(fail)
    turns(loop, trace, 1)


@scenario
def threadsafe_on_the_own_thread(loop, trace):
    loop.call_soon(trace, "a")
    loop.call_soon_threadsafe(trace, "b")
    loop.call_soon(trace, "c")

    def within():
        loop.call_soon_threadsafe(trace, "e")
        loop.call_soon(trace, "f")
        trace("d")

    loop.call_soon(within)
    turns(loop, trace, 2)


def elsewhere(function):
    """Calls a function on another thread, and waits for its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@scenario
def threadsafe_from_another_thread(loop, trace):
    def post(names):
        for name in names:
            loop.call_soon_threadsafe(trace, name)

    def within():
        trace("within")
        elsewhere(lambda: post("de"))

    elsewhere(lambda: post("ab"))
    elsewhere(lambda: post("c"))
    turns(loop, trace, 1)
    loop.call_soon(within)
    turns(loop, trace, 2)


@scenario
def posts_among_callbacks_and_timers(loop, trace):
    def within():
        trace("within")
        elsewhere(lambda: loop.call_soon_threadsafe(trace, "posted"))
        loop.call_soon(trace, "soon")
        loop.call_at(loop.time() - 1, trace, "timer")

    loop.call_soon(within)
    turns(loop, trace, 2)


@scenario
def tasks_from_another_thread(loop, trace):
    async def body(name):
        trace("begin", name)
        await asyncio.sleep(0)
        trace("end", name)

    def post():
        for name in "ab":
            asyncio.run_coroutine_threadsafe(body(name), loop)

    elsewhere(post)
    turns(loop, trace, 4)


@scenario
def cancel_of_a_handle_that_has_run(loop, trace):
    handle = loop.call_soon(trace, "runs")
    turn(loop)
    trace.yes("cancelled", handle.cancelled())
    handle.cancel()
    trace.yes("cancelled", handle.cancelled())
