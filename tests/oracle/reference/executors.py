"""Work on other threads."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from .support import connected, fail, settle


@connected
async def jobs_give_what_they_give(loop, trace):
    here = threading.get_ident()
    trace.yes("another thread", here != await loop.run_in_executor(None, threading.get_ident))
    trace(await loop.run_in_executor(None, lambda: "result"))
    try:
        await loop.run_in_executor(None, fail)
    except ValueError:
        trace("error")


@connected
async def jobs_of_one_worker(loop, trace):
    async def wait(job, name):
        trace(await job, "for", name)

    with ThreadPoolExecutor(1) as pool:
        hold = threading.Event()
        jobs = [loop.run_in_executor(pool, lambda name=name: (hold.wait(), name)[1]) for name in "abc"]
        # Whoever waits for the last one waits first.
        tasks = [loop.create_task(wait(job, name)) for job, name in zip(reversed(jobs), "zyx")]
        await settle()
        trace("settled")
        hold.set()
        for task in reversed(tasks):
            await task


@connected
async def job_cancelled_before_it_begins(loop, trace):
    began = []
    with ThreadPoolExecutor(1) as pool:
        hold = threading.Event()
        first = loop.run_in_executor(pool, hold.wait)
        second = loop.run_in_executor(pool, began.append, "second")
        third = loop.run_in_executor(pool, lambda: "third")
        trace.yes("cancel", second.cancel())
        trace.yes("cancelled", second.cancelled())
        await settle()
        hold.set()
        await first
        try:
            await second
        except asyncio.CancelledError:
            trace("was cancelled")
        trace(await third)
    trace.yes("began", began)


@connected
async def job_cancelled_while_it_runs(loop, trace):
    with ThreadPoolExecutor(1) as pool:
        began, hold = threading.Event(), threading.Event()
        job = loop.run_in_executor(pool, lambda: (began.set(), hold.wait(), "result")[2])
        began.wait()
        trace.yes("cancel", job.cancel())
        trace.yes("cancelled", job.cancelled())
        hold.set()
        try:
            trace(await job)
        except asyncio.CancelledError:
            trace("was cancelled")


@connected
async def waiting_for_a_job_is_cancelled(loop, trace):
    ended = []

    async def wait():
        try:
            await loop.run_in_executor(pool, lambda: (began.set(), hold.wait(), ended.append(True)))
        finally:
            trace("wait is left")

    with ThreadPoolExecutor(1) as pool:
        began, hold = threading.Event(), threading.Event()
        task = loop.create_task(wait())
        await asyncio.sleep(0)
        began.wait()
        task.cancel()
        await settle()
        trace.yes("cancelled", task.cancelled())
        trace.yes("ended", ended)
        hold.set()
        trace(await loop.run_in_executor(pool, lambda: "next"))
        trace.yes("ended", ended)


@connected
async def job_after_the_shutdown(loop, trace):
    trace(await loop.run_in_executor(None, lambda: "result"))
    await loop.shutdown_default_executor()
    loop.set_exception_handler(lambda loop, context: trace("reported"))
    try:
        job = loop.run_in_executor(None, trace, "not reached")
        trace("submitted")
        await job
    except RuntimeError:
        trace("refused")
    with ThreadPoolExecutor(1) as pool:
        trace(await loop.run_in_executor(pool, lambda: "a pool of its own"))


@connected
async def default_executor_that_is_set(loop, trace):
    def where():
        return threading.current_thread().name.rstrip("0123456789").rstrip("_-")

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        loop.set_default_executor(pool)
        trace(await loop.run_in_executor(None, where))
        with ThreadPoolExecutor(1, thread_name_prefix="other") as other:
            trace(await loop.run_in_executor(other, where))
        trace(await loop.run_in_executor(None, where))


@connected
async def shutdown_waits_for_the_jobs(loop, trace):
    async def wait():
        trace(await loop.run_in_executor(None, lambda: (hold.wait(), "result")[1]))

    async def shutdown():
        await loop.shutdown_default_executor()
        trace("shut down")

    hold = threading.Event()
    tasks = [loop.create_task(wait()), loop.create_task(shutdown())]
    await settle()
    trace("the loop goes on")
    hold.set()
    for task in tasks:
        await task
