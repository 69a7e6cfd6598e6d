"""Deadlines."""

import asyncio

from .support import scenario, turn, turns


@scenario
def deadlines_in_order(loop, trace):
    now = loop.time()
    for ago in (3, 7, 1, 9, 5, 8, 2, 6, 4):
        loop.call_at(now - ago, trace, ago)
    loop.call_at(now + 1000, trace, "never")
    turns(loop, trace, 2)


@scenario
def delays_in_order(loop, trace):
    for delay in (3, 1, 4, 2):
        loop.call_later(delay, trace, delay)
    loop.advance(1.5)
    loop.call_later(1, trace, 2.5)
    turns(loop, trace, 1)
    loop.advance(1.5)
    turns(loop, trace, 1)
    loop.advance(1.5)
    turns(loop, trace, 1)


@scenario
def delay_of_zero(loop, trace):
    loop.call_soon(trace, "a")
    loop.call_later(0, trace, "timer")
    loop.call_soon(trace, "b")
    loop.call_soon(lambda: (loop.call_later(0, trace, "timer too"), loop.call_soon(trace, "c")))
    turns(loop, trace, 2)


@scenario
def timers_made_in_a_batch(loop, trace):
    past = loop.time() - 10

    def first():
        trace("first")
        loop.call_at(past - 5, trace, "before it all")
        loop.call_soon(trace, "soon")

    loop.call_at(past, first)
    loop.call_at(past + 1, trace, "second")
    turns(loop, trace, 2)


@scenario
def timer_that_arms_itself(loop, trace):
    past = loop.time() - 10

    def fire(left):
        trace("fires", left)
        if left:
            loop.call_at(past, fire, left - 1)

    loop.call_at(past, fire, 3)
    turns(loop, trace, 5)


@scenario
def cancelled_timers(loop, trace):
    now = loop.time()
    handles = [loop.call_at(now - ago, trace, ago) for ago in range(9)]
    for handle in handles[::2]:
        handle.cancel()
    trace.yes("cancelled", handles[0].cancelled())
    trace.yes("cancelled", handles[1].cancelled())
    trace.yes("same deadline", handles[0].when() == now)
    turns(loop, trace, 1)
    trace.yes("cancelled", handles[1].cancelled())


@scenario
def equal_deadlines(loop, trace):
    past = loop.time() - 1
    for number in range(8):
        loop.call_at(past, trace, number)
    turns(loop, trace, 1)


async def sleeper(trace, delay):
    await asyncio.sleep(delay)
    trace("awake", delay)


@scenario
def sleepers_by_deadline(loop, trace):
    tasks = [loop.create_task(sleeper(trace, delay)) for delay in (3, 1, 4, 2)]
    turns(loop, trace, 1)
    loop.advance(2)
    turns(loop, trace, 2)
    loop.advance(2)
    turns(loop, trace, 2)
    assert all(task.done() for task in tasks)


@scenario
def sleeper_beside_callbacks(loop, trace):
    task = loop.create_task(sleeper(trace, 2))
    loop.call_later(1, trace, "before")
    loop.call_later(3, trace, "after")
    turns(loop, trace, 1)
    loop.advance(5)
    turns(loop, trace, 2)
    trace.yes("done", task.done())


@scenario
def sleep_of_zero(loop, trace):
    async def body(name):
        for number in range(3):
            trace(name, number)
            await asyncio.sleep(0)

    tasks = [loop.create_task(body(name)) for name in "ab"]
    loop.call_soon(trace, "soon")
    turns(loop, trace, 4)
    trace.yes("done", tasks[0].done())


async def guarded(trace, name, delay):
    try:
        await asyncio.sleep(delay)
        return "result"
    finally:
        trace(name, "dropped")


async def limited(trace, name, limit, delay):
    try:
        async with asyncio.timeout(limit):
            trace(name, await guarded(trace, name, delay))
    except TimeoutError:
        trace(name, "timed out")


@scenario
def timeouts(loop, trace):
    tasks = [
        loop.create_task(limited(trace, "in time", 3, 1)),
        loop.create_task(limited(trace, "too late", 2, 1000)),
        loop.create_task(limited(trace, "not needed", 1000, 0)),
        loop.create_task(limited(trace, "first", 1, 1000)),
    ]
    turns(loop, trace, 3)
    for _ in range(3):
        trace("-- advance")
        loop.advance(1)
        for _ in range(3):
            turn(loop)
    trace.yes("all done", all(task.done() for task in tasks))


@scenario
def timeout_of_zero(loop, trace):
    async def at_once():
        async with asyncio.timeout(0):
            trace("result")

    tasks = [loop.create_task(at_once()), loop.create_task(limited(trace, "sleep", 0, 1000))]
    for _ in range(4):
        turn(loop)
    trace.yes("all done", all(task.done() for task in tasks))


@scenario
def nested_timeouts(loop, trace):
    async def nested(name, outer, inner):
        try:
            async with asyncio.timeout(outer):
                await limited(trace, name, inner, 1000)
                trace(name, "goes on")
        except TimeoutError:
            trace(name, "outer timed out")

    tasks = [loop.create_task(nested("inner first", 3, 1)), loop.create_task(nested("outer first", 2, 1000))]
    turn(loop)
    for _ in range(3):
        trace("-- advance")
        loop.advance(1)
        for _ in range(4):
            turn(loop)
    trace.yes("all done", all(task.done() for task in tasks))


@scenario
def timer_turned_into_a_wake_up(loop, trace):
    async def wait(future):
        trace(await future)
        await asyncio.sleep(0)

    future = loop.create_future()
    task = loop.create_task(wait(future))
    loop.call_later(1, future.set_result, "set by a timer")
    loop.call_later(2, trace, "timer")
    turns(loop, trace, 1)
    loop.advance(3)
    turns(loop, trace, 3)
    trace.yes("done", task.done())


@scenario
def timeout_of_a_task(loop, trace):
    async def main(task):
        try:
            async with asyncio.timeout(1):
                await task
        except TimeoutError:
            trace("timed out")

    task = loop.create_task(guarded(trace, "task", 3))
    waiting = loop.create_task(main(task))
    for _ in range(4):
        for _ in range(4):
            turn(loop)
        trace("-- advance")
        loop.advance(1)
    for _ in range(4):
        turn(loop)
    trace.yes("done", waiting.done())
