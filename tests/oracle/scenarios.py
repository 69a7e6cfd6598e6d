"""Runs scenarios on asyncio and prints what happened, for the tests beside this file to compare with.

    scenarios.py [--repeat N] [--certificates FOLDER] [NAME ...]

Without names all scenarios run. For each, a line `== NAME` is printed and then its trace, or `!! skipped: REASON`. With
`--repeat` each runs N times, and a trace that is not the same every time is an error. `--certificates` is where `ca.pem`
and `both.pem` are, the second a certificate for localhost and its key; without it the scenarios with TLS are skipped.
"""

import asyncio
import faulthandler
import gc
import logging
import sys

from reference import combining, datagrams, debugging, descriptors, eager, endings, executors  # noqa: F401
from reference import flow, futures, generators, graceful, groups, order, pipes, protocols, reading  # noqa: F401
from reference import runs, sendfile, servers, signal_handlers, signals, sockets, streams, subprocesses  # noqa: F401
from reference import tasks, timers, tls, tls_ends, tls_flow, tls_start, tls_streams, unix  # noqa: F401
from reference.support import KEPT, SCENARIOS, SECURE, Loop, Trace
from reference.tls_peer import read_certificates

# In seconds: a scenario that hangs ends the process.
PATIENCE = 60


def run(function):
    """The trace of one run, on a loop of its own."""
    trace = Trace()
    loop = Loop()
    asyncio.set_event_loop(loop)
    loop.set_debug(False)
    try:
        function(loop, trace)
    except Exception as error:
        trace("!! failed:", repr(error))
    finally:
        # What a scenario leaves behind ends in silence.
        loop.set_exception_handler(lambda loop, context: None)
        left = asyncio.all_tasks(loop)
        if not loop.is_closed():
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left)) if left else None
            loop.close()
        asyncio.set_event_loop(None)
        for sock in KEPT:
            sock.close()
        KEPT.clear()
        gc.collect()
    return list(trace)


def main(arguments):
    repeat = 1
    if arguments[:1] == ["--repeat"]:
        repeat = int(arguments[1])
        arguments = arguments[2:]
    certificates = arguments[:1] == ["--certificates"]
    if certificates:
        read_certificates(arguments[1])
        arguments = arguments[2:]
    logging.disable(logging.CRITICAL)
    unstable = []
    for name in arguments or SCENARIOS:
        function, since = SCENARIOS[name]
        print("==", name)
        if sys.version_info < since:
            print("!! skipped: needs Python", ".".join(map(str, since)))
            continue
        if name in SECURE and not certificates:
            print("!! skipped: needs certificates")
            continue
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        trace = run(function)
        for _ in range(repeat - 1):
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            other = run(function)
            if other != trace:
                unstable.append((name, trace, other))
        for line in trace:
            print(line)
    faulthandler.cancel_dump_traceback_later()
    for name, trace, other in unstable:
        print("unstable:", name, trace, other, sep="\n", file=sys.stderr)
    return 1 if unstable else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
