"""Runs of the loop: how they end, and what is left."""

import asyncio

from .support import fail, scenario, socket_pair, trace_reports, turn, turns


@scenario
def stop_lets_the_batch_finish(loop, trace):
    def stopping():
        trace("stop")
        loop.stop()
        loop.call_soon(trace, "late")

    loop.call_soon(stopping)
    loop.call_soon(trace, "after")
    loop.run_forever()
    trace("returned")
    turn(loop)
    trace("returned")


@scenario
def stop_before_run(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")
    loop.add_reader(own, trace, "reader")
    loop.call_soon(lambda: loop.call_soon(trace, "nested"))
    loop.call_at(loop.time() - 1, trace, "timer")
    loop.stop()
    loop.run_forever()
    trace("returned")
    loop.remove_reader(own)
    loop.call_soon(loop.stop)
    loop.run_forever()
    trace("returned")


@scenario
def stop_counts_once(loop, trace):
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.call_at(loop.time() - 1, trace, "timer")
    loop.call_soon(lambda: loop.call_soon(lambda: (trace("second turn"), loop.stop())))
    loop.run_forever()
    trace("returned")
    loop.run_forever()
    trace("returned")


@scenario
def stop_by_reader_and_by_timer(loop, trace):
    own, peer = socket_pair()

    def read():
        trace("reader")
        loop.stop()
        loop.call_soon(trace, "after reader")

    def timer():
        trace("timer")
        loop.stop()
        loop.call_soon(trace, "after timer")

    peer.send(b"x")
    loop.add_reader(own, read)
    loop.call_at(loop.time() - 1, timer)
    loop.run_forever()
    trace("returned")
    loop.remove_reader(own)
    turn(loop)


@scenario
def running_or_not(loop, trace):
    trace.yes("before", loop.is_running())
    loop.call_soon(lambda: trace.yes("within", loop.is_running()))
    turn(loop)
    trace.yes("after", loop.is_running())
    loop.close()
    trace.yes("closed", loop.is_closed())


@scenario
def fatal_error_leaves_the_batch(loop, trace):
    trace_reports(loop, trace)

    def fatal():
        trace("fatal")
        loop.call_soon(trace, "after")
        raise SystemExit

    loop.call_soon(trace, "a")
    loop.call_soon(fatal)
    loop.call_soon(trace, "b")
    try:
        loop.run_forever()
    except SystemExit:
        trace("escaped")
    trace.yes("running", loop.is_running())
    turns(loop, trace, 2)


@scenario
def what_is_left_at_the_end_of_a_run(loop, trace):
    def chain():
        trace("soon")
        loop.call_soon(trace, "second")

    async def main():
        trace("main")
        loop.call_soon(chain)

    loop.run_until_complete(main())
    trace("returned")
    turns(loop, trace, 1)


@scenario
def timers_and_io_at_the_end_of_a_run(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")

    def read():
        trace("reader")
        loop.remove_reader(own)
        loop.call_soon(trace, "after reader")

    async def main():
        loop.add_reader(own, read)
        loop.call_at(loop.time() - 1, trace, "timer")
        loop.call_later(1000, trace, "never")
        trace("main")

    loop.run_until_complete(main())
    trace("returned")
    turns(loop, trace, 1)


@scenario
def io_at_the_end_of_a_run(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")

    async def main():
        loop.add_reader(own, lambda: (trace("reader"), loop.remove_reader(own)))
        trace("main")

    loop.run_until_complete(main())
    trace("returned")
    turns(loop, trace, 1)


@scenario
def tasks_left_at_the_end_of_a_run(loop, trace):
    async def endless(name):
        number = 0
        while True:
            number += 1
            trace(name, number)
            await asyncio.sleep(0)

    async def main():
        loop.create_task(endless("x"))
        await asyncio.sleep(0)
        loop.create_task(endless("y"))
        trace("main ends")

    loop.run_until_complete(main())
    trace("returned")
    turns(loop, trace, 2)


@scenario
def stopped_and_resumed(loop, trace):
    async def body():
        trace("begins")
        loop.stop()
        await asyncio.sleep(0)
        trace("goes on")
        await asyncio.sleep(0)
        return "result"

    async def wait(task):
        return await task

    task = loop.create_task(body())
    try:
        loop.run_until_complete(wait(task))
    except RuntimeError:
        trace("stopped")
    trace.yes("done", task.done())
    trace(loop.run_until_complete(wait(task)))


@scenario
def run_until_complete_of_a_future(loop, trace):
    def chain():
        trace("soon")
        future.set_result("result")
        loop.call_soon(second)

    def second():
        trace("second")
        loop.call_soon(trace, "third")

    future = loop.create_future()
    loop.call_soon(lambda: loop.call_soon(chain))
    trace(loop.run_until_complete(future))
    turns(loop, trace, 2)


@scenario
def close_discards_what_waits(loop, trace):
    loop.call_soon(trace, "soon")
    loop.call_at(loop.time() - 1, trace, "timer")
    loop.call_soon_threadsafe(trace, "posted")
    loop.close()
    loop.close()
    trace.yes("closed", loop.is_closed())


@scenario
def scheduled_on_a_closed_loop(loop, trace):
    loop.close()
    try:
        loop.call_soon(trace, "soon")
    except RuntimeError:
        trace("refused")
    try:
        loop.call_soon_threadsafe(trace, "posted")
    except RuntimeError:
        trace("refused")
    loop.create_future().set_result(None)
    trace("end")


@scenario
def failing_main(loop, trace):
    async def main():
        trace("main")
        loop.call_soon(lambda: (trace("soon"), loop.call_soon(trace, "second")))
        fail()

    loop.call_soon(lambda: loop.call_soon(trace, "beside"))
    try:
        loop.run_until_complete(main())
    except ValueError:
        trace("error")
    trace.yes("running", loop.is_running())
    turns(loop, trace, 1)


@scenario
def stopped_when_done(loop, trace):
    async def main():
        loop.call_soon(trace, "soon")
        loop.stop()
        return "result"

    trace(loop.run_until_complete(main()))
