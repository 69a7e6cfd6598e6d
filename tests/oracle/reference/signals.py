"""Signals."""

import signal

from .support import fail, scenario, trace_reports, turns

ONE, TWO, WINDOW = signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH


def log(loop, trace, *signals):
    for number in signals:
        loop.add_signal_handler(number, trace, number.name)


def send(*signals):
    for number in signals:
        signal.raise_signal(number)


@scenario
def signals_in_order(loop, trace):
    log(loop, trace, ONE, TWO, WINDOW)
    send(TWO, ONE, WINDOW, TWO, TWO, ONE)
    turns(loop, trace, 3)
    send(WINDOW, ONE)
    turns(loop, trace, 3)


@scenario
def signals_among_callbacks(loop, trace):
    def first():
        trace("first")
        send(TWO)
        loop.call_soon(trace, "scheduled by the first")

    log(loop, trace, ONE, TWO)
    loop.call_soon(first)
    send(ONE)
    loop.call_soon(trace, "second")
    turns(loop, trace, 5)


@scenario
def signal_handler_is_replaced(loop, trace):
    loop.add_signal_handler(ONE, trace, "old")
    loop.add_signal_handler(ONE, trace, "new")
    send(ONE, ONE)
    turns(loop, trace, 3)
    loop.add_signal_handler(ONE, trace, "newest")
    send(ONE)
    turns(loop, trace, 3)


@scenario
def signal_handler_is_removed(loop, trace):
    log(loop, trace, ONE, TWO)
    for number in (ONE, ONE, WINDOW, signal.SIGKILL):
        trace.yes("removed", loop.remove_signal_handler(number))
    send(TWO)
    turns(loop, trace, 2)
    # Under way: the loop has not looked yet.
    send(TWO)
    trace.yes("removed", loop.remove_signal_handler(TWO))
    turns(loop, trace, 3)


@scenario
def signal_handler_is_removed_while_it_is_queued(loop, trace):
    def removes():
        trace.yes("removed", loop.remove_signal_handler(TWO))

    loop.add_signal_handler(ONE, removes)
    log(loop, trace, TWO)
    send(ONE, TWO)
    turns(loop, trace, 3)


@scenario
def signal_handler_fails(loop, trace):
    def failing():
        trace("called")
        fail()

    trace_reports(loop, trace)
    loop.add_signal_handler(ONE, failing)
    log(loop, trace, TWO)
    send(ONE, TWO, ONE)
    turns(loop, trace, 3)
    trace.yes("removed", loop.remove_signal_handler(ONE))


@scenario
def signals_that_cannot_be_caught(loop, trace):
    for number in (0, -1, 1000, signal.SIGKILL, signal.SIGSTOP):
        try:
            loop.add_signal_handler(number, trace, "called")
            trace("added")
        except (ValueError, RuntimeError):
            trace("refused")
