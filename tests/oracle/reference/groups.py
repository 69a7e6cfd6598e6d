"""Task groups."""

import asyncio

from .combining import after, endless, failing
from .support import connected, scenario, settle, turns
from .tasks import Guard


async def told(trace, group, what="group"):
    """Runs a body in a task group, and tells how that ended."""
    try:
        async with asyncio.TaskGroup() as tasks:
            await group(tasks)
        trace(what, "is done")
    except* ValueError as error:
        trace(what, "has failed:", len(error.exceptions))


@connected
async def group_waits_for_its_children(loop, trace):
    async def late(group):
        await asyncio.sleep(0)
        group.create_task(after(trace, "late", 2))
        trace("child ends")

    async def body(group):
        group.create_task(after(trace, "a", 2))
        group.create_task(late(group))
        trace("body ends")

    await told(trace, body)


@connected
async def group_with_an_error_in_the_second_child(loop, trace):
    async def body(group):
        children.extend((
            group.create_task(endless(trace, "a")),
            group.create_task(failing(trace, "b", 2)),
        ))
        await endless(trace, "body")

    children = []
    await told(trace, body)
    trace.yes("a cancelled", children[0].cancelled())
    trace.yes("b cancelled", children[1].cancelled())


@connected
async def group_with_two_errors(loop, trace):
    async def body(group):
        group.create_task(failing(trace, "a", 2))
        group.create_task(failing(trace, "b", 2))
        group.create_task(endless(trace, "c"))

    await told(trace, body)


@connected
async def group_with_a_cancelled_child(loop, trace):
    async def body(group):
        child = group.create_task(endless(trace, "a"))
        group.create_task(after(trace, "b", 5))
        await asyncio.sleep(0)
        child.cancel()

    await told(trace, body)


@connected
async def group_cancelled_from_outside(loop, trace):
    async def body(group):
        group.create_task(endless(trace, "a"))
        await endless(trace, "body")

    task = loop.create_task(told(trace, body))
    await settle()
    task.cancel()
    await settle()
    trace.yes("cancelled", task.cancelled())


@connected
async def group_whose_body_fails(loop, trace):
    async def body(group):
        group.create_task(endless(trace, "a"))
        await failing(trace, "body", 1)

    await told(trace, body)


@connected
async def group_within_a_group(loop, trace):
    async def inner(group):
        group.create_task(endless(trace, "inner a"))
        group.create_task(failing(trace, "inner b", 1))

    async def child():
        async with asyncio.TaskGroup() as group:
            await inner(group)

    async def body(group):
        group.create_task(endless(trace, "outer a"))
        group.create_task(child())

    await told(trace, body, "outer")


@connected
async def group_that_is_ending_takes_no_more(loop, trace):
    async def child(group):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            trace("asked")
        await asyncio.sleep(0)
        late = after(trace, "not reached", 0)
        try:
            group.create_task(late)
        except RuntimeError:
            trace("refused")
        late.close()

    async def body(group):
        group.create_task(child(group))
        group.create_task(failing(trace, "b", 2))

    await told(trace, body)


@scenario
def group_turn_by_turn(loop, trace):
    async def main():
        async with asyncio.TaskGroup() as group:
            with Guard(trace, "body"):
                group.create_task(after(trace, "a", 0))
        trace("group is done")

    task = loop.create_task(main())
    turns(loop, trace, 4)
    trace.yes("done", task.done())
