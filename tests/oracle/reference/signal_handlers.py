"""Signal handlers, by the turn."""

import os
import signal
import threading
from signal import SIGUSR1, SIGUSR2, SIGWINCH, raise_signal

from .support import fail, scenario, trace_reports, turn, turns


@scenario
def signal_among_callbacks_and_timers(loop, trace):
    def raising():
        raise_signal(SIGUSR1)
        trace("raised")

    loop.add_signal_handler(SIGUSR1, lambda: (trace("handler"), loop.call_soon(trace, "scheduled by the handler")))
    loop.call_at(loop.time() - 1, trace, "timer")
    loop.call_soon(raising)
    loop.call_soon(trace, "beside")
    for _ in range(5):
        turn(loop)
    trace("end")


@scenario
def signal_turn_by_turn(loop, trace):
    def timer():
        trace("timer")
        loop.call_soon(trace, "soon")

    loop.add_signal_handler(SIGUSR1, trace, "handler")
    raise_signal(SIGUSR1)
    loop.call_at(loop.time() - 1, timer)
    loop.call_soon(trace, "before")
    turns(loop, trace, 3)


@scenario
def signals_sent_in_order(loop, trace):
    for number in SIGUSR1, SIGWINCH, SIGUSR2:
        loop.add_signal_handler(number, trace, signal.Signals(number).name)
    for number in SIGUSR1, SIGUSR2, SIGWINCH:
        raise_signal(number)
    for _ in range(4):
        turn(loop)


@scenario
def signals_out_of_order(loop, trace):
    for number in SIGUSR1, SIGWINCH, SIGUSR2:
        loop.add_signal_handler(number, trace, signal.Signals(number).name)
    for number in SIGWINCH, SIGUSR2, SIGUSR1, SIGWINCH:
        raise_signal(number)
    for _ in range(4):
        turn(loop)


@scenario
def handler_of_a_signal_is_replaced(loop, trace):
    loop.add_signal_handler(SIGUSR1, trace, "old")
    loop.add_signal_handler(SIGUSR1, trace, "new")
    raise_signal(SIGUSR1)
    raise_signal(SIGUSR1)
    for _ in range(4):
        turn(loop)
    trace.yes("removed", loop.remove_signal_handler(SIGUSR1))


@scenario
def handler_removes_another(loop, trace):
    def removing():
        trace("removing")
        trace.yes("removed", loop.remove_signal_handler(SIGUSR2))

    loop.add_signal_handler(SIGUSR2, trace, "not reached")
    loop.add_signal_handler(SIGUSR1, removing)
    raise_signal(SIGUSR1)
    raise_signal(SIGUSR2)
    for _ in range(4):
        turn(loop)


@scenario
def handler_removes_itself(loop, trace):
    # Window changes are ignored where nobody handles them.
    loop.add_signal_handler(SIGWINCH, lambda: (trace("once"), loop.remove_signal_handler(SIGWINCH)))
    raise_signal(SIGWINCH)
    for _ in range(4):
        turn(loop)
    raise_signal(SIGWINCH)
    for _ in range(4):
        turn(loop)


@scenario
def handlers_are_removed_twice(loop, trace):
    trace.yes("never added", loop.remove_signal_handler(SIGUSR1))
    trace.yes("one that cannot be", loop.remove_signal_handler(signal.SIGKILL))
    loop.add_signal_handler(SIGUSR1, trace, "not reached")
    trace.yes("another one", loop.remove_signal_handler(SIGUSR2))
    trace.yes("removed", loop.remove_signal_handler(SIGUSR1))
    trace.yes("removed again", loop.remove_signal_handler(SIGUSR1))


@scenario
def signals_that_cannot_be_handled(loop, trace):
    for number in 0, -1, 65, 1000, signal.SIGKILL, signal.SIGSTOP:
        try:
            loop.add_signal_handler(number, trace, "not reached")
        except ValueError:
            trace(int(number), "is not valid")
        except RuntimeError:
            trace(int(number), "cannot be caught")


@scenario
def signal_while_the_loop_waits(loop, trace):
    loop.add_signal_handler(SIGUSR1, lambda: (trace("handler"), loop.stop()))
    for _ in range(2):
        sender = threading.Timer(0.02, os.kill, (os.getpid(), SIGUSR1))
        sender.start()
        loop.run_forever()
        trace("returned")
        sender.join()


@scenario
def handlers_of_a_closed_loop(loop, trace):
    loop.add_signal_handler(SIGUSR1, trace, "not reached")
    loop.add_signal_handler(SIGWINCH, trace, "not reached")
    raise_signal(SIGWINCH)
    loop.close()
    trace.yes("default", signal.getsignal(SIGUSR1) == signal.SIG_DFL)
    trace.yes("removed", loop.remove_signal_handler(SIGUSR1))
    raise_signal(SIGWINCH)


@scenario
def handler_stops_the_loop(loop, trace):
    def stopping():
        trace("stop")
        loop.call_soon(trace, "late")
        loop.stop()

    loop.add_signal_handler(SIGUSR1, stopping)
    loop.add_signal_handler(SIGUSR2, trace, "the other")
    raise_signal(SIGUSR1)
    raise_signal(SIGUSR2)
    loop.run_forever()
    trace("returned")
    for _ in range(2):
        turn(loop)


@scenario
def handler_that_fails(loop, trace):
    def failing():
        trace("fails")
        fail()

    trace_reports(loop, trace)
    loop.add_signal_handler(SIGUSR1, failing)
    for _ in range(2):
        raise_signal(SIGUSR1)
        for _ in range(3):
            turn(loop)
