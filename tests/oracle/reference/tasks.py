"""Tasks."""

import asyncio
import contextvars

from .support import fail, scenario, trace_reports, turn, turns


@scenario
def tasks_start_in_order(loop, trace):
    async def body(name):
        trace("task", name)

    tasks = []
    loop.call_soon(trace, "a")
    tasks.append(loop.create_task(body("x")))
    loop.call_soon(trace, "b")
    tasks.append(loop.create_task(body("y")))
    trace("made")
    turns(loop, trace, 2)


@scenario
def yielding_tasks_take_turns(loop, trace):
    async def body(name, count):
        for number in range(count):
            trace(name, number)
            await asyncio.sleep(0)
        trace(name, "ends")

    tasks = [loop.create_task(body(name, count)) for name, count in (("x", 3), ("y", 1), ("z", 2))]
    loop.call_soon(lambda: (trace("soon"), loop.call_soon(trace, "soon too")))
    turns(loop, trace, 4)
    trace.yes("all done", all(task.done() for task in tasks))


@scenario
def awaiting_a_fresh_task_takes_two_turns(loop, trace):
    async def child():
        trace("child")
        return "value"

    async def body():
        trace("begins")
        trace(await loop.create_task(child()))

    task = loop.create_task(body())
    turns(loop, trace, 4)
    trace.yes("done", task.done())


@scenario
def chain_of_tasks(loop, trace):
    async def link(below):
        if below:
            await loop.create_task(link(below - 1))
        trace("link", below)

    task = loop.create_task(link(3))
    turns(loop, trace, 8)
    trace.yes("done", task.done())


@scenario
def awaiting_a_task_that_is_done(loop, trace):
    async def child():
        return "value"

    async def body(task):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        trace.yes("child done", task.done())
        trace(await task)

    task = loop.create_task(body(loop.create_task(child())))
    turns(loop, trace, 3)
    trace.yes("done", task.done())


@scenario
def done_callbacks_of_tasks(loop, trace):
    async def body(name):
        await asyncio.sleep(0)
        trace(name, "ends")
        if name == "failing":
            fail()

    def told(name):
        def callback(task):
            if task.cancelled():
                trace(name, "was cancelled")
            elif task.exception():
                trace(name, "has failed")
            else:
                trace(name, "is done")
                loop.call_soon(trace, "soon")

        return callback

    tasks = {}
    for name in ("failing", "good", "cancelled"):
        tasks[name] = loop.create_task(body(name))
        tasks[name].add_done_callback(told(name))
        tasks[name].add_done_callback(lambda task, name=name: trace(name, "again"))
    turns(loop, trace, 1)
    tasks["cancelled"].cancel()
    turns(loop, trace, 3)
    tasks["good"].add_done_callback(told("good, late"))
    turns(loop, trace, 1)


@scenario
def awaiter_after_callbacks_of_a_task(loop, trace):
    async def child():
        await asyncio.sleep(0)
        trace("child ends")

    async def wait(task):
        await task
        trace("awaiter")

    task = loop.create_task(child())
    for text in ("callback 1", "callback 2"):
        task.add_done_callback(lambda task, text=text: trace(text))
    waiter = loop.create_task(wait(task))
    turns(loop, trace, 3)
    trace.yes("done", waiter.done())


class Guard:
    """Leaves a line when a task's body is left."""

    def __init__(self, trace, name):
        self.trace, self.name = trace, name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.trace(self.name, "is left")


def told(trace, name):
    return lambda task: trace(name, "was cancelled" if task.cancelled() else "is done")


@scenario
def cancel_before_the_start(loop, trace):
    async def body():
        trace("not reached")

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    trace.yes("cancel", task.cancel())
    trace.yes("done", task.done())
    turns(loop, trace, 2)
    trace.yes("done", task.done())
    trace.yes("cancel", task.cancel())


@scenario
def cancel_of_a_sleeping_task(loop, trace):
    async def body():
        with Guard(trace, "body"):
            await asyncio.sleep(1000)
            trace("not reached")

    async def wait(task):
        try:
            await task
        except asyncio.CancelledError:
            trace("awaiter hears of it")

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    waiter = loop.create_task(wait(task))
    turns(loop, trace, 1)
    loop.call_soon(trace, "before")
    trace.yes("cancel", task.cancel())
    trace.yes("cancel twice", task.cancel())
    trace.yes("done", task.done())
    loop.call_soon(trace, "after")
    turns(loop, trace, 3)
    trace.yes("done", waiter.done())
    trace.yes("cancel when done", task.cancel())


@scenario
def cancel_from_a_timer(loop, trace):
    async def body():
        with Guard(trace, "body"):
            await asyncio.sleep(1000)

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    turns(loop, trace, 1)
    loop.call_later(1, task.cancel)
    loop.call_later(2, trace, "later timer")
    loop.advance(3)
    turns(loop, trace, 3)


@scenario
def cancel_of_a_task_that_is_ready(loop, trace):
    future = loop.create_future()

    async def body():
        with Guard(trace, "body"):
            await future
            trace("not reached")

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    turns(loop, trace, 1)
    future.set_result(None)
    trace.yes("cancel", task.cancel())
    turns(loop, trace, 2)


@scenario
def cancel_of_itself(loop, trace):
    async def body(name, then):
        with Guard(trace, name):
            trace.yes("cancel", asyncio.current_task().cancel())
            trace(name, "goes on")
            await then()
            trace(name, "ends")
        return "lost"

    async def at_once():
        pass

    async def yielding():
        await asyncio.sleep(0)
        trace("not reached")

    tasks = {name: loop.create_task(body(name, then)) for name, then in (("x", at_once), ("y", yielding))}
    for name, task in tasks.items():
        task.add_done_callback(told(trace, name))
    turns(loop, trace, 4)


@scenario
def cancel_of_what_is_awaited(loop, trace):
    future = loop.create_future()

    async def child():
        with Guard(trace, "child"):
            await future

    async def parent(task):
        with Guard(trace, "parent"):
            await task

    inner = loop.create_task(child())
    outer = loop.create_task(parent(inner))
    turns(loop, trace, 2)
    outer.cancel()
    turns(loop, trace, 4)
    trace.yes("outer cancelled", outer.cancelled())
    trace.yes("inner cancelled", inner.cancelled())
    trace.yes("future cancelled", future.cancelled())


@scenario
def failing_task_that_is_awaited(loop, trace):
    trace_reports(loop, trace)

    async def child():
        await asyncio.sleep(0)
        fail()

    async def wait(task):
        try:
            await task
        except ValueError:
            trace("awaiter hears of it")

    waiter = loop.create_task(wait(loop.create_task(child())))
    loop.call_soon(trace, "soon")
    turns(loop, trace, 4)
    trace.yes("done", waiter.done())


@scenario
def failing_task_that_nobody_awaits(loop, trace):
    trace_reports(loop, trace)

    async def body(name):
        trace(name)
        await asyncio.sleep(0)
        trace(name, "fails")
        fail()

    loop.create_task(body("forgotten"))
    kept = [loop.create_task(body("kept"))]
    turn(loop)
    loop.call_soon(trace, "soon")
    turns(loop, trace, 2)
    trace("let go")
    kept.clear()
    trace("end")


variable = contextvars.ContextVar("variable", default="default")


@scenario
def contexts_are_copied(loop, trace):
    async def child():
        trace("child", variable.get())
        variable.set("child's")
        await asyncio.sleep(0)
        trace("child", variable.get())
        loop.call_soon(lambda: trace("child's callback", variable.get()))

    async def parent():
        variable.set("parent's")
        task = loop.create_task(child())
        variable.set("parent's second")
        future = loop.create_future()
        future.add_done_callback(lambda future: trace("done callback", variable.get()))
        variable.set("parent's third")
        loop.call_soon(future.set_result, None)
        await task
        trace("parent", variable.get())

    loop.call_soon(lambda: variable.set("callback's"))
    task = loop.create_task(parent())
    turns(loop, trace, 6)
    trace("outside", variable.get())
    trace.yes("done", task.done())


@scenario
def who_is_current(loop, trace):
    def say(where):
        current = asyncio.current_task(loop)
        trace(where, current.get_name() if current else "none")

    def live():
        return " ".join(sorted(task.get_name() for task in asyncio.all_tasks(loop)))

    async def body(name):
        say(name)
        await asyncio.sleep(0)
        say(name)
        trace("live:", live())

    say("outside")
    tasks = [loop.create_task(body(name), name=name) for name in ("x", "y")]
    loop.call_soon(say, "callback")
    turns(loop, trace, 2)
    tasks[0].set_name("z")
    trace(tasks[0].get_name(), "live:", live())


@scenario
def task_that_goes_on_without_a_handle(loop, trace):
    async def body():
        for number in range(3):
            trace("step", number)
            await asyncio.sleep(0)

    loop.create_task(body())
    turns(loop, trace, 4)
