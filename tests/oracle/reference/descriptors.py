"""Readers and writers."""

from .support import fail, received, scenario, socket_pair, trace_reports, turns


@scenario
def reader_before_writer(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")
    loop.add_writer(own, trace, "writer")
    loop.add_reader(own, trace, "reader")
    turns(loop, trace, 2)
    trace(received(own))
    turns(loop, trace, 1)
    trace.yes("reader removed", loop.remove_reader(own))
    trace.yes("writer removed", loop.remove_writer(own))
    turns(loop, trace, 1)


@scenario
def readers_in_order_of_readiness(loop, trace):
    pairs = [socket_pair() for _ in range(4)]
    for number, (own, _) in enumerate(pairs):
        loop.add_reader(own, lambda number=number, own=own: trace("reader", number, received(own)))
    turns(loop, trace, 1)
    for number in (2, 0, 3, 1):
        pairs[number][1].send(b"x")
    turns(loop, trace, 2)
    for own, _ in pairs:
        loop.remove_reader(own)


@scenario
def removed_within_the_batch(loop, trace):
    first, first_peer = socket_pair()
    second, second_peer = socket_pair()

    def read():
        trace("first reader")
        trace.yes("writer removed", loop.remove_writer(first))
        trace.yes("second removed", loop.remove_reader(second))
        trace.yes("second removed again", loop.remove_reader(second))

    loop.add_reader(first, read)
    loop.add_reader(second, trace, "second reader")
    turns(loop, trace, 1)
    first_peer.send(b"x")
    second_peer.send(b"x")
    loop.add_writer(first, trace, "writer")
    turns(loop, trace, 1)
    trace.yes("removed", loop.remove_reader(first))


@scenario
def replaced_within_the_batch(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")
    loop.add_reader(own, trace, "old")
    loop.call_soon(lambda: loop.add_reader(own, trace, "new"))
    turns(loop, trace, 2)
    loop.remove_reader(own)


@scenario
def replaced_by_itself(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")

    def read():
        trace("old")
        loop.add_reader(own, trace, "new")

    loop.add_reader(own, read)
    turns(loop, trace, 3)
    loop.remove_reader(own)


@scenario
def reported_while_it_lasts(loop, trace):
    own, peer = socket_pair()
    loop.add_reader(own, trace, "readable")
    turns(loop, trace, 1)
    peer.send(b"x")
    turns(loop, trace, 2)
    trace(received(own))
    turns(loop, trace, 1)
    loop.remove_reader(own)


@scenario
def watched_from_the_next_turn_on(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")

    def begin():
        loop.call_soon(trace, "soon")
        loop.add_reader(own, trace, "reader")
        loop.call_soon(trace, "soon too")
        trace("begun")

    loop.call_soon(begin)
    turns(loop, trace, 2)
    loop.remove_reader(own)


@scenario
def what_removing_says(loop, trace):
    own, peer = socket_pair()
    trace.yes("nothing there", loop.remove_reader(own))
    loop.add_reader(own, trace, "reader")
    trace.yes("other direction", loop.remove_writer(own))
    trace.yes("reader", loop.remove_reader(own))
    trace.yes("reader again", loop.remove_reader(own))
    loop.add_writer(own, trace, "writer")
    turns(loop, trace, 1)
    loop.close()
    trace.yes("closed loop", loop.remove_writer(own))


@scenario
def hang_up(loop, trace):
    own, peer = socket_pair()
    while True:
        try:
            own.send(b"x" * 65536)
        except BlockingIOError:
            break
    loop.add_reader(own, lambda: trace("reader", received(own)))
    loop.add_writer(own, trace, "writer")
    turns(loop, trace, 1)
    received(peer)
    peer.close()
    turns(loop, trace, 2)
    loop.remove_reader(own)
    turns(loop, trace, 1)
    loop.remove_writer(own)


@scenario
def room_to_write(loop, trace):
    own, peer = socket_pair()
    while True:
        try:
            own.send(b"x" * 65536)
        except BlockingIOError:
            break
    loop.add_writer(own, trace, "writer")
    turns(loop, trace, 1)
    received(peer)
    turns(loop, trace, 1)
    loop.remove_writer(own)


@scenario
def stop_with_a_reader_ready(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")
    loop.add_reader(own, trace, "reader")
    for _ in range(2):
        loop.call_soon(loop.stop)
        loop.run_forever()
        trace("returned")
    loop.remove_reader(own)


@scenario
def failing_reader(loop, trace):
    trace_reports(loop, trace)
    own, peer = socket_pair()
    other, other_peer = socket_pair()
    loop.add_reader(own, fail)
    loop.add_reader(other, trace, "other reader")
    turns(loop, trace, 1)
    peer.send(b"x")
    other_peer.send(b"x")
    turns(loop, trace, 2)
    trace.yes("removed", loop.remove_reader(own))
    loop.remove_reader(other)


@scenario
def reader_that_removes_itself(loop, trace):
    own, peer = socket_pair()
    peer.send(b"x")

    def read():
        trace.yes("removed", loop.remove_reader(own))
        loop.call_soon(trace, "soon")
        trace("reader")

    loop.add_reader(own, read)
    turns(loop, trace, 3)


@scenario
def writer_that_feeds_a_reader(loop, trace):
    own, peer = socket_pair()

    def write():
        trace("writer")
        peer.send(b"x")
        loop.remove_writer(peer)

    loop.add_reader(own, lambda: trace("reader", received(own)))
    loop.add_writer(peer, write)
    turns(loop, trace, 3)
    loop.remove_reader(own)
