"""What debug mode says is slow."""

import asyncio
import logging

from .support import scenario, turn


class Warnings(logging.Handler):
    """Says what is slow: of which kind it is, and how long it took."""

    def __init__(self, trace):
        super().__init__(logging.WARNING)
        self.trace = trace

    def emit(self, record):
        words = record.getMessage().split()
        self.trace("slow:", words[1].lstrip("<"), *words[-2:])


def watch(loop, trace, function):
    """Runs a function in debug mode."""
    logger, warnings = logging.getLogger("asyncio"), Warnings(trace)
    before = logger.level, logger.propagate, logging.root.manager.disable
    logger.addHandler(warnings)
    logging.disable(logging.NOTSET)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    loop.set_debug(True)
    try:
        function()
    finally:
        loop.set_debug(False)
        logger.removeHandler(warnings)
        level, logger.propagate, disabled = before
        logger.setLevel(level)
        logging.disable(disabled)


@scenario
def slow_callbacks(loop, trace):
    def body():
        trace("limit", loop.slow_callback_duration)
        loop.call_soon(loop.advance, 0.062)
        loop.call_soon(trace, "quick")
        loop.call_soon(loop.advance, 0.25)
        loop.call_soon(loop.advance, 0.5).cancel()
        loop.call_soon(trace, "last")
        turn(loop)
        loop.call_later(1, loop.advance, 0.125)
        loop.advance(1)
        turn(loop)
        future = loop.create_future()
        future.add_done_callback(lambda future: loop.advance(0.375))
        future.set_result(None)
        turn(loop)

    watch(loop, trace, body)


@scenario
def slow_steps_of_a_task(loop, trace):
    async def work():
        loop.advance(0.25)
        await asyncio.sleep(0)
        loop.advance(0.062)
        await asyncio.sleep(0)
        loop.advance(0.5)

    def body():
        task = loop.create_task(work())
        for _ in range(3):
            trace("-- turn")
            turn(loop)
        trace.yes("done", task.done())

    watch(loop, trace, body)


@scenario
def a_limit_for_what_is_slow(loop, trace):
    def body():
        loop.slow_callback_duration = 0.25
        loop.call_soon(loop.advance, 0.125)
        loop.call_soon(loop.advance, 0.25)
        turn(loop)
        loop.slow_callback_duration = 0
        loop.call_soon(trace, "a")
        loop.call_soon(trace, "b")
        turn(loop)

    watch(loop, trace, body)


@scenario
def debug_mode_turned_on_and_off(loop, trace):
    def body():
        loop.set_debug(False)
        loop.call_soon(loop.advance, 0.25)
        loop.call_soon(loop.set_debug, True)
        loop.call_soon(loop.advance, 0.5)
        loop.call_soon(loop.set_debug, False)
        loop.call_soon(loop.advance, 0.75)
        turn(loop)

    watch(loop, trace, body)
