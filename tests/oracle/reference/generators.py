"""Async generators."""

import asyncio

from .support import connected, fail, scenario, settle, turns


async def numbers(trace, name, then=None):
    try:
        for number in range(3):
            trace(name, "gives", number)
            yield number
        trace(name, "is through")
    finally:
        trace(name, "cleans up")
        await asyncio.sleep(0)
        if then is not None:
            then()
        trace(name, "has cleaned up")


@connected
async def generator_to_its_end(loop, trace):
    async for number in numbers(trace, "it"):
        trace("got", number)
        await asyncio.sleep(0)
    trace("end")


@connected
async def generator_is_closed(loop, trace):
    generator = numbers(trace, "it")
    async for number in generator:
        trace("got", number)
        break
    trace("left")
    await generator.aclose()
    trace("closed")
    trace.yes("over", await anext(generator, None) is None)
    await generator.aclose()


@connected
async def generator_that_has_not_begun_is_closed(loop, trace):
    generator = numbers(trace, "it")
    await generator.aclose()
    trace.yes("over", await anext(generator, None) is None)


@connected
async def generators_at_the_shutdown(loop, trace):
    kept, begun, ended = (numbers(trace, name) for name in ("kept", "not begun", "ended"))
    trace(await anext(kept))
    async for _ in ended:
        pass
    await loop.shutdown_asyncgens()
    trace("shut down")
    trace.yes("over", await anext(kept, None) is None)
    await begun.aclose()


@connected
async def generator_fails_at_the_shutdown(loop, trace):
    def reported(loop, context):
        generator = context.get("asyncgen")
        trace("reported", "with the generator" if generator is failing else "without")

    loop.set_exception_handler(reported)
    # They may be closed in any order.
    failing, good = numbers(trace, "failing", fail), numbers(lambda *_: None, "good")
    await anext(good)
    await anext(failing)
    await loop.shutdown_asyncgens()
    trace("shut down")
    trace.yes("over", await anext(good, None) is None)


@scenario
def generator_is_dropped(loop, trace):
    async def main():
        async for number in numbers(trace, "it"):
            trace("got", number)
            break
        trace("left")

    loop.create_task(main())
    turns(loop, trace, 5)


@connected
async def generator_that_fails(loop, trace):
    async def failing():
        yield 0
        fail()

    generator = failing()
    try:
        async for number in generator:
            trace("got", number)
    except ValueError:
        trace("error")
    trace.yes("over", await anext(generator, None) is None)


@connected
async def generator_whose_iteration_is_cancelled(loop, trace):
    async def waiting():
        try:
            yield 0
            await asyncio.sleep(1000)
        finally:
            trace("body is left")

    async def iterate():
        try:
            async for number in generator:
                trace("got", number)
        finally:
            trace("iteration is left")

    generator = waiting()
    task = loop.create_task(iterate())
    await settle()
    task.cancel()
    await settle()
    trace.yes("cancelled", task.cancelled())
    await generator.aclose()
    trace("closed")
