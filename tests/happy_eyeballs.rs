//! Attempts that overlap: Happy Eyeballs (behaviours HE).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::Cell;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{
    AddrInfoFlags, ConnectErrors, EventLoop, Family, ManualClock, Protocol, Task, TcpStream, Transport, open_connection,
};

use common::{DropCounter, Kind, finish, on_loop, on_manual_clock, open_descriptors, run_on, settle};
use tcp::{
    Idle, address_error, black_hole, black_hole_on, close, closed_port, closed_port_on, complete, has_ipv6, idle,
    plain_listener, take_client,
};

/// What RFC 8305 recommends.
const DELAY: Duration = Duration::from_millis(250);
const MOMENT: Duration = Duration::from_millis(1);

/// Runs a test on every selector, with a clock that it turns by hand.
fn on_every_clock(body: impl Fn(&EventLoop, &ManualClock)) {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for debug in [false, true] {
            let clock = ManualClock::new();
            let given = clock.clone();
            run_on(move || kind.builder().debug(debug).clock(given), |el| body(el, &clock));
        }
    }
}

/// What is open beyond what was before: descriptors of the loop's and of the process.
struct Open<'a>(&'a EventLoop, u64, usize);

impl<'a> Open<'a> {
    fn new(el: &'a EventLoop) -> Self {
        settle(el);
        Self(el, el.stats().descriptors.live(), open_descriptors())
    }

    #[track_caller]
    fn is(&self, count: usize) {
        settle(self.0);
        let registered = self.0.stats().descriptors.live() - self.1;
        assert_eq!((registered, open_descriptors() - self.2), (count as u64, count), "registered, and open");
    }
}

type Connection = io::Result<(Transport, roundelay::ProtocolRef<Idle>)>;

fn connect(el: &EventLoop, targets: &[SocketAddr]) -> Task<Connection> {
    let connecting = el.create_connection(idle(), targets).happy_eyeballs_delay(DELAY);
    let task = el.create_task(connecting);
    settle(el);
    task
}

/// The addresses that were tried, in order, by their errors.
#[track_caller]
fn tried(error: &io::Error) -> Vec<SocketAddr> {
    let all: &ConnectErrors = error.get_ref().unwrap().downcast_ref().unwrap();
    all.errors.iter().map(|error| address_error(error).address).collect()
}

/// HE-03: where the first attempt succeeds the second one never begins, however much time goes by.
#[test]
fn the_first_may_succeed_at_once() {
    on_every_clock(|el, clock| {
        let ((first, address), (second, other)) = (plain_listener(), plain_listener());
        let open = Open::new(el);
        let task = connect(el, &[address, other]);
        let (transport, _) = finish(el, task).unwrap().unwrap();
        open.is(1);
        assert_eq!(el.stats().timers.live(), 0);
        clock.advance(DELAY * 10);
        open.is(1);
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        assert!(take_client(&first).is_some());
        assert!(take_client(&second).is_none());
        close(el, &transport);
    });
}

/// HE-05: an address that does not answer holds the next one up for the delay, and no longer; it loses, and its socket is
/// closed by the time the connection is there.
#[test]
fn the_second_begins_after_the_delay_and_wins() {
    on_every_clock(|el, clock| {
        let (hole, (listener, address)) = (black_hole(), plain_listener());
        let open = Open::new(el);
        let task = connect(el, &[hole.address, address]);
        open.is(1);
        clock.advance(DELAY - MOMENT);
        open.is(1);
        assert!(take_client(&listener).is_none());
        clock.advance(MOMENT);
        let (transport, _) = finish(el, task).unwrap().unwrap();
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        assert_eq!(el.stats().timers.live(), 0);
        open.is(1);
        close(el, &transport);
        open.is(0);
    });
}

/// HE-05: a plain stream is connected in the same way, and takes the same settings.
#[test]
fn plain_streams_take_turns() {
    on_every_clock(|el, clock| {
        let (hole, (listener, address)) = (black_hole(), plain_listener());
        let open = Open::new(el);
        let targets = vec![hole.address, address];
        let connecting = TcpStream::connect(targets).happy_eyeballs_delay(DELAY).interleave(1);
        let task = el.create_task(connecting.local_addr(("127.0.0.1", 0)).proto(libc::IPPROTO_TCP));
        settle(el);
        open.is(1);
        clock.advance(DELAY);
        let stream = finish(el, task).unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(take_client(&listener).is_some());
        open.is(1);
        drop(stream);
        open.is(0);

        let ((_one, one), (_other, other)) = (closed_port(), closed_port());
        let connecting = TcpStream::connect(vec![one, other]).all_errors(true);
        assert_eq!(tried(&finish(el, el.create_task(connecting)).unwrap().unwrap_err()), [one, other]);
        let connecting = TcpStream::connect(one).family(Family::V6);
        let error = finish(el, el.create_task(connecting)).unwrap().unwrap_err().to_string();
        assert!(error.starts_with("TcpStream::connect: ") && error.contains("family()"), "{error}");
        let connecting = TcpStream::connect(("localhost", 9)).flags(AddrInfoFlags::NUMERICHOST);
        assert!(finish(el, el.create_task(connecting)).unwrap().unwrap_err().to_string().contains("localhost"));
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// HE-05: each further attempt has its own delay, counted from the one before; those that came before go on meanwhile.
#[test]
fn attempts_overlap() {
    on_every_clock(|el, clock| {
        let holes = [black_hole(), black_hole(), black_hole()];
        let (_listener, address) = plain_listener();
        let targets: Vec<SocketAddr> = holes.iter().map(|hole| hole.address).chain([address]).collect();
        let open = Open::new(el);
        let task = connect(el, &targets);
        for under_way in 1..=3 {
            open.is(under_way);
            clock.advance(DELAY - MOMENT);
            open.is(under_way);
            clock.advance(MOMENT);
        }
        let (transport, _) = finish(el, task).unwrap().unwrap();
        open.is(1);
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        close(el, &transport);
    });
}

/// HE-05: an attempt that fails does not hold the next one up at all.
#[test]
fn a_failure_is_not_waited_for() {
    on_every_clock(|el, clock| {
        let ((_a, refused), (_b, again)) = (closed_port(), closed_port());
        let (hole, (_listener, address)) = (black_hole(), plain_listener());
        let (transport, _) = finish(el, connect(el, &[refused, again, address])).unwrap().unwrap();
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        close(el, &transport);

        // The delay counts from the attempt that is under way.
        let open = Open::new(el);
        let task = connect(el, &[refused, hole.address, again, address]);
        open.is(1);
        clock.advance(DELAY - MOMENT);
        open.is(1);
        clock.advance(MOMENT);
        let (transport, _) = finish(el, task).unwrap().unwrap();
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        close(el, &transport);
    });
}

/// HE-05: an earlier attempt may still succeed when later ones are under way, or have failed.
#[test]
fn an_earlier_attempt_may_win_late() {
    on_manual_clock(|el, clock| {
        let (_holder, refused) = closed_port();
        let first = black_hole();
        let open = Open::new(el);
        let targets = [first.address, refused];
        let task = connect(el, &targets);
        clock.advance(DELAY);
        // The second one has failed, and there is no third.
        open.is(1);
        assert!(!task.is_done());
        let _listener = first.open();
        let (transport, _) = finish(el, task).unwrap().unwrap();
        assert_eq!(transport.extra_info().peer_addr, Some(targets[0]));
        close(el, &transport);
    });
}

/// HE-06: where all fail the error is that of attempts one after the other: one, the same, or all of them.
#[test]
fn all_attempts_may_fail() {
    on_every_clock(|el, _| {
        let ((_a, first), (_b, second)) = (closed_port(), closed_port());
        let open = Open::new(el);
        let error = finish(el, connect(el, &[first, first])).unwrap().unwrap_err();
        assert_eq!(address_error(&error).address, first);
        let error = finish(el, connect(el, &[first, second])).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("Multiple exceptions: cannot connect to "), "{error}");
        let targets = [first, second, first];
        let builder = el.create_connection(idle(), &targets[..]).happy_eyeballs_delay(DELAY).all_errors(true);
        let error = complete(el, builder).unwrap_err();
        assert_eq!(tried(&error), targets);
        open.is(0);
    });
}

/// HE-06: the errors stand in the order of the attempts, though a later one has failed first.
#[test]
fn errors_stand_in_the_order_of_the_attempts() {
    on_manual_clock(|el, clock| {
        let (hole, (_holder, refused)) = (black_hole(), closed_port());
        let targets = [hole.address, refused];
        let open = Open::new(el);
        let builder = el.create_connection(idle(), &targets[..]).happy_eyeballs_delay(DELAY).all_errors(true);
        let task = el.create_task(builder);
        settle(el);
        clock.advance(DELAY);
        open.is(1);
        assert!(!task.is_done());
        // Whoever knocks again is refused from now on.
        hole.refuse();
        let error = finish(el, task).unwrap().unwrap_err();
        assert_eq!(tried(&error), targets);
    });
}

/// HE-02, HE-07: without any attempt there is an error of I/O, too, and no panic.
#[test]
fn no_address_at_all() {
    on_every_clock(|el, _| {
        for all_errors in [false, true] {
            let builder = el.create_connection(idle(), Vec::new()).happy_eyeballs_delay(DELAY).all_errors(all_errors);
            let error = complete(el, builder).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
            assert_eq!(error.to_string(), "there was no address to connect to");
        }
    });
}

/// HE-07: attempts of which none has got as far as a system call still give an error: no local address fits them.
#[test]
fn attempts_that_never_begin() {
    on_every_clock(|el, _| {
        let (_listener, address) = plain_listener();
        let builder = el.create_connection(idle(), vec![address; 3]).happy_eyeballs_delay(DELAY);
        let error = complete(el, builder.local_addr(("::1", 0))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().starts_with("no matching local address"), "{error}");
    });
}

/// HE-08: whoever gives up while attempts race closes all their sockets there and then, and nothing comes of them.
#[test]
fn giving_up_ends_every_attempt() {
    on_every_clock(|el, clock| {
        let holes = [black_hole(), black_hole(), black_hole()];
        let targets: Vec<SocketAddr> = holes.iter().map(|hole| hole.address).collect();
        let drops = DropCounter::new();
        for attempts in 1..=3 {
            let open = Open::new(el);
            let guard = drops.guard();
            let factory = move || {
                drop(guard);
                panic!("no connection") as Idle
            };
            let task = el.create_task(el.create_connection(factory, &targets[..]).happy_eyeballs_delay(DELAY));
            settle(el);
            for _ in 1..attempts {
                clock.advance(DELAY);
                settle(el);
            }
            open.is(attempts);
            assert!(task.cancel());
            open.is(0);
            assert!(task.is_done());
            assert_eq!((drops.count(), el.stats().timers.live()), (attempts, 0));
        }
    });
}

/// HE-08: a limit of time ends a race as a cancellation does.
#[test]
fn time_runs_out_during_the_race() {
    on_every_clock(|el, clock| {
        let holes = [black_hole(), black_hole()];
        let targets: Vec<SocketAddr> = holes.iter().map(|hole| hole.address).collect();
        let open = Open::new(el);
        let connecting = el.create_connection(idle(), &targets[..]).happy_eyeballs_delay(DELAY);
        let task = el.create_task(roundelay::timeout(DELAY * 2, connecting));
        settle(el);
        clock.advance(DELAY);
        open.is(2);
        clock.advance(DELAY);
        assert!(finish(el, task).unwrap().is_err());
        open.is(0);
    });
}

/// HE-08: the loop may be closed during the race.
#[test]
fn the_loop_is_closed_during_the_race() {
    on_every_clock(|el, clock| {
        let holes = [black_hole(), black_hole()];
        let targets: Vec<SocketAddr> = holes.iter().map(|hole| hole.address).collect();
        let task = connect(el, &targets);
        clock.advance(DELAY);
        settle(el);
        el.close();
        assert!(task.is_done());
    });
}

/// HE-05: two that succeed at the same time are one connection: the factory is called once, and the others are closed.
#[test]
fn there_is_one_winner() {
    on_manual_clock(|el, _| {
        struct Counted(Rc<Cell<usize>>);
        impl Protocol for Counted {
            fn connection_made(&mut self, _: &Transport) {
                self.0.set(self.0.get() + 1);
            }
        }
        // Those let the others in as soon as they knock again, which is when both are known.
        let holes = [black_hole(), black_hole()];
        let targets: Vec<SocketAddr> = holes.iter().map(|hole| hole.address).collect();
        let open = Open::new(el);
        let made = Rc::new(Cell::new(0));
        let counter = made.clone();
        let builder = el.create_connection(move || Counted(counter), &targets[..]);
        let task = el.create_task(builder.happy_eyeballs_delay(Duration::ZERO));
        open.is(2);
        let listeners = holes.map(|hole| hole.open());
        // Both are through before the loop looks.
        for listener in &listeners {
            listener.set_nonblocking(false).unwrap();
        }
        let mut clients: Vec<_> = listeners.iter().map(|listener| listener.accept().unwrap().0).collect();
        let (transport, _) = finish(el, task).unwrap().unwrap();
        let after = Open::new(el);
        assert_eq!((made.get(), after.1), (1, open.1 + 1));
        assert_eq!(transport.extra_info().peer_addr, Some(targets[0]));
        // The loser's peer sees the end; the winner's does not.
        let mut loser = clients.pop().unwrap();
        assert!(matches!(loser.read(&mut [0; 1]), Ok(0) | Err(_)));
        clients[0].set_nonblocking(true).unwrap();
        assert_eq!(clients[0].read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        close(el, &transport);
    });
}

/// As `has_ipv6`, which opens a socket for a moment that another test might count.
fn alone_has_ipv6() -> bool {
    let _alone = common::alone();
    has_ipv6()
}

/// HE-01: with a delay the families take turns, with as many of the first one ahead as were asked for.
#[test]
fn families_take_turns() {
    if !alone_has_ipv6() {
        return;
    }
    on_every_clock(|el, _| {
        let fours = [closed_port(), closed_port(), closed_port()];
        let sixes = [closed_port_on("[::1]:0"), closed_port_on("[::1]:0")];
        let ([a, b, c], [x, y]) = (fours.each_ref().map(|port| port.1), sixes.each_ref().map(|port| port.1));
        let given = vec![a, b, c, x, y];
        let connect = || el.create_connection(idle(), given.clone()).all_errors(true);
        let order = |builder: roundelay::CreateConnection<fn() -> Idle>| tried(&complete(el, builder).unwrap_err());
        let delayed = || connect().happy_eyeballs_delay(DELAY);
        assert_eq!(order(connect()), given);
        assert_eq!(order(delayed()), [a, x, b, y, c]);
        assert_eq!(order(delayed().interleave(1)), [a, x, b, y, c]);
        assert_eq!(order(delayed().interleave(2)), [a, b, x, c, y]);
        assert_eq!(order(delayed().interleave(0)), given);
        assert_eq!(order(connect().interleave(3)), [a, b, c, x, y]);
        assert_eq!(order(connect().interleave(1)), [a, x, b, y, c]);
    });
}

/// HE-01, HE-05: IPv6 that does not work costs one delay, however many addresses it has.
#[test]
fn a_dead_family_costs_one_delay() {
    if !alone_has_ipv6() {
        return;
    }
    on_every_clock(|el, clock| {
        let dead = [black_hole_on("[::1]:0"), black_hole_on("[::1]:0")];
        let (_listener, address) = plain_listener();
        let task = connect(el, &[dead[0].address, dead[1].address, address]);
        assert!(!task.is_done());
        clock.advance(DELAY);
        let (transport, _) = finish(el, task).unwrap().unwrap();
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        close(el, &transport);
    });
}

/// HE-05, TC-08: without a delay nothing overlaps, however long it takes.
#[test]
fn without_a_delay_attempts_wait_for_each_other() {
    on_every_clock(|el, clock| {
        let (hole, (_listener, address)) = (black_hole(), plain_listener());
        for delay in [None, Some(Duration::MAX)] {
            let open = Open::new(el);
            let mut builder = el.create_connection(idle(), vec![hole.address, address]);
            if let Some(delay) = delay {
                builder = builder.happy_eyeballs_delay(delay);
            }
            let task = el.create_task(builder);
            settle(el);
            clock.advance(Duration::from_secs(3600));
            open.is(1);
            assert!(task.cancel());
            open.is(0);
        }
    });
}

/// HE-05: streams have the same options.
#[test]
fn streams_race_too() {
    on_every_clock(|el, clock| {
        let (hole, (_listener, address)) = (black_hole(), plain_listener());
        let targets = [hole.address, address];
        let task = el
            .create_task(async move { open_connection(&targets[..]).happy_eyeballs_delay(DELAY).interleave(0).await });
        settle(el);
        clock.advance(DELAY);
        let (reader, mut writer) = finish(el, task).unwrap().unwrap();
        assert_eq!(writer.extra_info().peer_addr, Some(address));
        writer.close();
        complete(el, async { writer.wait_closed().await }).unwrap();
        drop(reader);
    });
}

/// HE-09: a race makes no tasks, so that no task factory has a say in it, eager or not.
#[test]
fn a_race_makes_no_tasks() {
    on_loop(|el| {
        let made = Rc::new(Cell::new(0));
        let counter = made.clone();
        el.set_task_factory(Some(Rc::new(move |_, future, _| {
            counter.set(counter.get() + 1);
            future
        })));
        let (hole, (_listener, address)) = (black_hole(), plain_listener());
        let targets = vec![hole.address, hole.address, address];
        let builder = el.create_connection(idle(), targets).happy_eyeballs_delay(MOMENT);
        let (transport, _) = complete(el, builder).unwrap();
        assert_eq!(made.get(), 0);
        close(el, &transport);
        el.set_task_factory(None);
    });
}

/// HE-09, gh-124309: on a loop of eager tasks a race from within a task works as ever, also where the first attempt succeeds
/// at once.
#[test]
fn a_race_on_a_loop_of_eager_tasks() {
    on_loop(|el| {
        el.set_eager_tasks(true);
        let (hole, (_listener, address)) = (black_hole(), plain_listener());
        for targets in [vec![hole.address, hole.address, address], vec![address, hole.address]] {
            let handle = el.clone();
            let connect = move || handle.create_connection(idle(), targets).happy_eyeballs_delay(MOMENT);
            let made = el.call_soon(move || roundelay::spawn(connect()));
            let (transport, _) = complete(el, async { made.await.unwrap().await }).unwrap().unwrap();
            close(el, &transport);
        }
    });
}
