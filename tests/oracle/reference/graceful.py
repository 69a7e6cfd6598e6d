"""Cancelling a task that has a word in it."""

import asyncio

from .support import connected, fail, scenario, settle, turn, turns
from .tasks import Guard, told


async def until_asked(trace):
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        trace("asked")


@scenario
def asked_to_end_turn_by_turn(loop, trace):
    async def body():
        await until_asked(trace)
        await asyncio.sleep(0)
        trace("cleaned up")

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    turns(loop, trace, 1)
    loop.call_soon(trace, "before")
    trace.yes("cancel", task.cancel())
    trace.yes("cancelled", task.cancelled())
    loop.call_soon(trace, "after")
    turns(loop, trace, 3)
    trace.yes("done", task.done())
    trace.yes("cancelled", task.cancelled())
    trace.yes("cancel when done", task.cancel())


@connected
async def asked_to_end_gives_a_value(loop, trace):
    async def body():
        await until_asked(trace)
        return "value"

    task = loop.create_task(body())
    await settle()
    task.cancel()
    trace(await task)
    trace.yes("cancelled", task.cancelled())


@connected
async def asked_to_end_and_goes_on(loop, trace):
    future = loop.create_future()

    async def body():
        await until_asked(trace)
        trace(await future)
        return "value"

    task = loop.create_task(body())
    await settle()
    task.cancel()
    await settle()
    trace.yes("future cancelled", future.cancelled())
    future.set_result("result")
    trace(await task)


@connected
async def asked_to_end_twice(loop, trace):
    async def body():
        await until_asked(trace)
        await asyncio.sleep(0)
        trace("goes on")
        return "value"

    task = loop.create_task(body())
    await settle()
    task.cancel()
    task.cancel()
    trace(await task)


@connected
async def asked_to_end_and_fails(loop, trace):
    async def body():
        await until_asked(trace)
        fail()

    task = loop.create_task(body())
    await settle()
    task.cancel()
    try:
        await task
    except ValueError:
        trace("error")
    trace.yes("cancelled", task.cancelled())


@connected
async def asked_to_end_in_itself(loop, trace):
    async def body():
        trace.yes("cancel", asyncio.current_task().cancel())
        trace("goes on")
        await until_asked(trace)
        return "value"

    task = loop.create_task(body())
    trace(await task)


@connected
async def asked_to_end_before_it_begins(loop, trace):
    async def body():
        await until_asked(trace)

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    task.cancel()
    await settle()


@connected
async def asked_to_end_but_does_not_hear(loop, trace):
    async def body():
        with Guard(trace, "outer"), Guard(trace, "inner"):
            await asyncio.sleep(1000)

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    await settle()
    task.cancel()
    await settle()


@scenario
def asked_to_end_from_a_timer(loop, trace):
    async def body():
        await until_asked(trace)
        await asyncio.sleep(20)
        trace("cleaned up")

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    loop.call_later(1, task.cancel)
    for seconds in 1, 10, 10:
        turn(loop)
        loop.advance(seconds)
        trace("clock", seconds)
        for _ in range(4):
            turn(loop)


@scenario
def asked_to_end_at_its_end(loop, trace):
    async def body():
        trace.yes("cancel", asyncio.current_task().cancel())

    task = loop.create_task(body())
    task.add_done_callback(told(trace, "task"))
    turn(loop)
    turn(loop)
