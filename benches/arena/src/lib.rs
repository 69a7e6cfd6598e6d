//! Shared parts of the arena: command line, JSON, sockets, clocks, and the
//! in-process micro workloads, which are generic over [`Rt`] so that every
//! Rust contestant runs exactly the same code.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{poll_fn, Future};
use std::hint::black_box;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub mod net;
pub mod sys;
pub mod tls;

// ---------------------------------------------------------------- contestant

/// What a runtime has to offer to run the micro workloads.
/// Everything runs on one thread; `spawn*`, `sleep` etc. are called inside of
/// `block_on` only.
pub trait Rt: Sized + 'static {
    /// Awaits a spawned task.
    type Join: Future<Output = u64> + 'static;
    fn new() -> Self;
    fn block_on<F: Future<Output = u64> + 'static>(&mut self, f: F) -> u64;
    fn spawn<F: Future<Output = u64> + 'static>(f: F) -> Self::Join;
    fn spawn_detached<F: Future<Output = ()> + 'static>(f: F);
    /// The runtime's own yield, if it has one.
    fn yield_now() -> impl Future<Output = ()> + 'static {
        self_wake()
    }
    fn sleep(d: Duration) -> impl Future<Output = ()> + 'static;
    /// `n` round trips between two tasks over the runtime's natural unbounded
    /// channel; see the [`pingpong!`] macro.
    fn pingpong(n: u64) -> impl Future<Output = u64> + 'static;
    /// Create a oneshot channel, send `v` through it, await it.
    fn oneshot(v: u64) -> impl Future<Output = u64> + 'static;
    /// Another thread posts `n` boxed jobs, a loop task runs them.
    fn cross_post(n: u64) -> impl Future<Output = u64> + 'static {
        let (tx, rx) = async_channel::unbounded::<Job>();
        cross_post_via(n, move |j| tx.try_send(j).ok().unwrap(), async move {
            let mut sum = 0;
            for _ in 0..n {
                sum += (rx.recv().await.unwrap())();
            }
            sum
        })
    }
}

pub type Job = Box<dyn FnOnce() -> u64 + Send>;

/// Helper of [`Rt::cross_post`]: starts the posting thread, awaits `consume`.
pub async fn cross_post_via(n: u64, post: impl Fn(Job) + Send + 'static, consume: impl Future<Output = u64>) -> u64 {
    let th = std::thread::spawn(move || {
        sys::pin_to(1);
        for i in 0..n {
            post(Box::new(move || black_box(i)));
        }
    });
    let s = consume.await;
    th.join().unwrap();
    s
}

/// `pingpong!(Rt, n, make_channel, |tx, v| send, |rx| recv)` expands to an
/// async block that bounces `n` messages between two tasks.
#[macro_export]
macro_rules! pingpong {
    ($rt:ty, $n:expr, $mk:expr, |$tx:ident, $v:ident| $send:expr, |$rx:ident| $recv:expr) => {{
        let n: u64 = $n;
        async move {
            #[allow(unused_mut)]
            let (tx_a, mut rx_a) = $mk;
            #[allow(unused_mut)]
            let (tx_b, mut rx_b) = $mk;
            let peer = <$rt as $crate::Rt>::spawn(async move {
                for _ in 0..n {
                    let got: u64 = {
                        #[allow(unused_mut)]
                        let $rx = &mut rx_a;
                        $recv
                    };
                    let $tx = &tx_b;
                    let $v: u64 = got + 1;
                    $send;
                }
                0
            });
            let mut sum = 0u64;
            for i in 0..n {
                {
                    let $tx = &tx_a;
                    let $v: u64 = i;
                    $send;
                }
                let got: u64 = {
                    #[allow(unused_mut)]
                    let $rx = &mut rx_b;
                    $recv
                };
                assert_eq!(got, i + 1);
                sum = sum.wrapping_add(got);
            }
            peer.await;
            sum
        }
    }};
}

type ServeFn = fn(&Cli);
type MicroFn = fn(&str, Option<u64>) -> Option<Sample>;

/// One contestant; a bin may hold several (variants of the same runtime).
pub struct Peer {
    pub name: &'static str,
    micro: Option<(MicroFn, Vec<&'static str>)>,
    serve: Vec<(&'static str, ServeFn)>,
}

impl Peer {
    pub fn new(name: &'static str) -> Peer {
        Peer { name, micro: None, serve: vec![] }
    }
    /// Run the generic micro workloads on `R`.
    pub fn micro<R: Rt>(mut self) -> Peer {
        self.micro = Some((micro::<R>, WORKLOADS.iter().map(|w| w.0).collect()));
        self
    }
    /// A server: kind is one of echo, tls-echo, echo-unix, udp-echo, accept, http.
    pub fn serve(mut self, kind: &'static str, f: ServeFn) -> Peer {
        self.serve.push((kind, f));
        self
    }
}

/// Entry point of every contestant's bin.
///
/// ```text
/// <bin> info
/// <bin> [--peer NAME] micro WORKLOAD [--n N]
/// <bin> [--peer NAME] echo|echo-unix|udp-echo|accept|http [--port P] [--path P] [--buf BYTES]
/// ```
pub fn main(peers: Vec<Peer>) {
    let cli = Cli::parse();
    let cmd = cli.pos.first().map(|s| s.as_str()).unwrap_or("info");
    if cmd == "info" {
        let list: Vec<String> = peers
            .iter()
            .map(|p| {
                let m: Vec<String> = p.micro.iter().flat_map(|m| m.1.iter()).map(|s| format!("\"{s}\"")).collect();
                let s: Vec<String> = p.serve.iter().map(|s| format!("\"{}\"", s.0)).collect();
                format!("{{\"name\":\"{}\",\"micro\":[{}],\"serve\":[{}]}}", p.name, m.join(","), s.join(","))
            })
            .collect();
        println!("{{\"peers\":[{}]}}", list.join(","));
        return;
    }
    let peer = match cli.opts.get("peer") {
        Some(n) => peers.iter().find(|p| p.name == n).unwrap_or_else(|| die(&format!("no peer {n} in this bin"))),
        None => &peers[0],
    };
    if cmd == "micro" {
        let w = cli.pos.get(1).unwrap_or_else(|| die("micro WORKLOAD"));
        let (f, _) = peer.micro.as_ref().unwrap_or_else(|| die("no micro workloads"));
        sys::pin_to(0);
        sys::quiet_malloc();
        match f(w, cli.opts.get("n").map(|v| v.parse().unwrap())) {
            Some(s) => println!("{}", s.json(peer.name, w)),
            None => die(&format!("unknown workload {w}")),
        }
        return;
    }
    match peer.serve.iter().find(|s| s.0 == cmd) {
        Some((_, f)) => f(&cli),
        None => die(&format!("{} does not serve {cmd}", peer.name)),
    }
}

pub fn die(msg: &str) -> ! {
    eprintln!("{msg}");
    std::process::exit(2)
}

pub struct Cli {
    pub pos: Vec<String>,
    pub opts: HashMap<String, String>,
    /// Size of the read buffer of a connection.
    pub buf: usize,
}

impl Cli {
    /// `--key value` pairs and positional words; a `--flag` followed by
    /// another `--` word or by nothing is "1".
    pub fn parse() -> Cli {
        let mut pos = vec![];
        let mut opts = HashMap::new();
        let mut it = std::env::args().skip(1).peekable();
        while let Some(a) = it.next() {
            if let Some(k) = a.strip_prefix("--") {
                let v = match it.peek() {
                    Some(v) if !v.starts_with("--") => it.next().unwrap(),
                    _ => "1".to_string(),
                };
                opts.insert(k.to_string(), v);
            } else {
                pos.push(a);
            }
        }
        let buf = opts.get("buf").map(|s| s.parse().unwrap()).unwrap_or(65536);
        Cli { pos, opts, buf }
    }
    pub fn num(&self, k: &str, default: f64) -> f64 {
        self.opts.get(k).map(|v| v.parse().unwrap_or_else(|_| die(&format!("--{k} {v}")))).unwrap_or(default)
    }
    pub fn port(&self) -> u16 {
        self.num("port", 7777.0) as u16
    }
    pub fn path(&self) -> String {
        self.opts.get("path").cloned().unwrap_or("/tmp/arena.sock".into())
    }
}

// ------------------------------------------------------------------- samples

/// The outcome of one micro workload.
#[derive(Clone, Debug)]
pub struct Sample {
    pub n: u64,
    pub ns: f64,
    pub cpu_ns: f64,
    pub extra: Vec<(&'static str, f64)>,
}

impl Sample {
    pub fn json(&self, peer: &str, workload: &str) -> String {
        let mut s = format!(
            "{{\"peer\":\"{peer}\",\"workload\":\"{workload}\",\"n\":{},\"ns_per_op\":{:.2},\"cpu_ns_per_op\":{:.2}",
            self.n, self.ns, self.cpu_ns
        );
        for (k, v) in &self.extra {
            s += &format!(",\"{k}\":{v:.2}");
        }
        s + "}"
    }
}

/// Wall time and CPU time of the whole process, or of this thread only.
pub struct Meter {
    t: Instant,
    cpu: u64,
    clock: libc::clockid_t,
}

impl Meter {
    pub fn start() -> Meter {
        let clock = libc::CLOCK_PROCESS_CPUTIME_ID;
        Meter { cpu: sys::clock_ns(clock), t: Instant::now(), clock }
    }
    pub fn start_thread() -> Meter {
        let clock = libc::CLOCK_THREAD_CPUTIME_ID;
        Meter { cpu: sys::clock_ns(clock), t: Instant::now(), clock }
    }
    pub fn stop(self, n: u64) -> Sample {
        let ns = self.t.elapsed().as_nanos() as f64;
        let cpu = sys::clock_ns(self.clock) - self.cpu;
        Sample { n, ns: ns / n as f64, cpu_ns: cpu as f64 / n as f64, extra: vec![] }
    }
}

// ------------------------------------------------- small runtime-free futures

pub struct SelfWake(bool);
/// Wakes its own task and is pending once: the runtime-neutral yield.
pub fn self_wake() -> SelfWake {
    SelfWake(false)
}
impl Future for SelfWake {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls once with the current task's waker; true when it was ready.
pub async fn poll_once<F: Future>(mut f: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(f.as_mut().poll(cx).is_ready())).await
}

/// Counts down to zero on one thread, wakes one waiter then.
#[derive(Clone)]
pub struct Latch(Rc<(Cell<u64>, RefCell<Option<Waker>>)>);
impl Latch {
    pub fn new(n: u64) -> Latch {
        Latch(Rc::new((Cell::new(n), RefCell::new(None))))
    }
    pub fn down(&self) {
        let left = self.0 .0.get() - 1;
        self.0 .0.set(left);
        if left == 0 {
            if let Some(w) = self.0 .1.borrow_mut().take() {
                w.wake();
            }
        }
    }
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.0 .0.get() == 0 {
                return Poll::Ready(());
            }
            *self.0 .1.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A minimal local channel, the same for every contestant.
pub struct Chan(Rc<RefCell<(VecDeque<u64>, Option<Waker>)>>);
impl Chan {
    pub fn new() -> (Chan, Chan) {
        let c = Rc::new(RefCell::new((VecDeque::new(), None)));
        (Chan(c.clone()), Chan(c))
    }
    pub fn send(&self, v: u64) {
        let mut c = self.0.borrow_mut();
        c.0.push_back(v);
        let w = c.1.take();
        drop(c);
        if let Some(w) = w {
            w.wake();
        }
    }
    pub async fn recv(&self) -> u64 {
        poll_fn(|cx| {
            let mut c = self.0.borrow_mut();
            match c.0.pop_front() {
                Some(v) => Poll::Ready(v),
                None => {
                    c.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// xorshift64*, so that all contestants see the same random numbers.
pub struct Rng(u64);
impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545F4914F6CDD1D)
    }
    pub fn range(&mut self, lo: u64, hi: u64) -> u64 {
        lo + self.next() % (hi - lo)
    }
}

// ----------------------------------------------------------- micro workloads

/// Name, default number of operations.
pub const WORKLOADS: &[(&str, u64)] = &[
    ("spawn_join", 200_000),
    ("spawn_detached_burst", 200_000),
    ("spawn_await", 100_000),
    ("yield", 1_000_000),
    ("self_wake", 1_000_000),
    ("pingpong", 500_000),
    ("pingpong_shared", 500_000),
    ("oneshot", 1_000_000),
    ("timer_insert_drop", 1_000_000),
    ("timer_fire", 100_000),
    ("sleep_latency", 500),
    ("cross_thread_wake", 20_000),
    ("cross_thread_wake_idle", 10_000),
    ("cross_thread_post", 1_000_000),
    ("block_on_ready", 200_000),
    ("runtime_new", 200),
];

fn micro<R: Rt>(w: &str, n: Option<u64>) -> Option<Sample> {
    let &(_, dflt) = WORKLOADS.iter().find(|x| x.0 == w)?;
    let n = n.unwrap_or(dflt);
    Some(match w {
        "spawn_join" => in_task::<R>(async move {
            spawn_join::<R>(n).await; // warm-up: touches the heap
            spawn_join::<R>(n).await
        }),
        "spawn_detached_burst" => in_task::<R>(async move {
            spawn_burst::<R>(n).await;
            spawn_burst::<R>(n).await
        }),
        "spawn_await" => in_task::<R>(async move {
            spawn_await::<R>(n / 10 + 1).await;
            spawn_await::<R>(n).await
        }),
        "yield" => in_task::<R>(async move {
            yields::<R>(n / 10 + 1, true).await;
            yields::<R>(n, true).await
        }),
        "self_wake" => in_task::<R>(async move {
            yields::<R>(n / 10 + 1, false).await;
            yields::<R>(n, false).await
        }),
        "pingpong" => in_task::<R>(async move {
            black_box(R::pingpong(n / 10 + 1).await);
            let m = Meter::start();
            let s = R::pingpong(n).await;
            let r = m.stop(n);
            assert_eq!(s, n * (n + 1) / 2);
            r
        }),
        "pingpong_shared" => in_task::<R>(async move {
            let run = |n| pingpong!(R, n, Chan::new(), |tx, v| tx.send(v), |rx| rx.recv().await);
            black_box(run(n / 10 + 1).await);
            let m = Meter::start();
            let s = run(n).await;
            let r = m.stop(n);
            assert_eq!(s, n * (n + 1) / 2);
            r
        }),
        "oneshot" => in_task::<R>(async move {
            let mut sum = 0u64;
            let mut m = Meter::start();
            for i in 0..n + n / 10 {
                if i == n / 10 {
                    m = Meter::start();
                }
                sum += black_box(R::oneshot(black_box(i)).await);
                if i % 64 == 63 {
                    self_wake().await; // cooperative budgets (tokio) want it
                }
            }
            black_box(sum);
            m.stop(n)
        }),
        "timer_insert_drop" => in_task::<R>(timer_insert_drop::<R>(n)),
        "timer_fire" => in_task::<R>(timer_fire::<R>(n)),
        "sleep_latency" => in_task::<R>(async move {
            let d = Duration::from_millis(1);
            R::sleep(d).await;
            let mut all = vec![];
            let m = Meter::start();
            for _ in 0..n {
                let t = Instant::now();
                R::sleep(d).await;
                let e = t.elapsed();
                assert!(e >= d, "woke too early: {e:?}");
                all.push((e - d).as_nanos() as f64);
            }
            let mut r = m.stop(n);
            r.ns = all.iter().sum::<f64>() / n as f64;
            all.sort_by(f64::total_cmp);
            r.extra = vec![("p50_ns", all[all.len() / 2]), ("p99_ns", all[all.len() * 99 / 100])];
            r
        }),
        "cross_thread_wake" => in_task::<R>(async move {
            cross_wake(n / 10 + 1, false).await;
            cross_wake(n, false).await
        }),
        "cross_thread_wake_idle" => in_task::<R>(async move {
            cross_wake(n / 10 + 1, true).await;
            cross_wake(n, true).await
        }),
        "cross_thread_post" => in_task::<R>(async move {
            R::cross_post(n / 10 + 1).await;
            let m = Meter::start();
            let s = R::cross_post(n).await;
            let r = m.stop(n);
            assert_eq!(s, n * (n - 1) / 2);
            r
        }),
        "block_on_ready" => {
            let mut rt = R::new();
            let mut sum = 0u64;
            for i in 0..n / 10 {
                sum += rt.block_on(async move { black_box(i) });
            }
            let m = Meter::start();
            for i in 0..n {
                sum += rt.block_on(async move { black_box(i) });
            }
            black_box(sum);
            m.stop(n)
        }
        "runtime_new" => {
            let mut sum = 0;
            for _ in 0..n / 10 + 1 {
                sum += R::new().block_on(async { 1 });
            }
            let m = Meter::start();
            for _ in 0..n {
                sum += R::new().block_on(async { 1 });
            }
            black_box(sum);
            m.stop(n)
        }
        _ => unreachable!(),
    })
}

/// Every measured body runs in a spawned task, not in the root future, which
/// some runtimes poll differently.
fn in_task<R: Rt>(body: impl Future<Output = Sample> + 'static) -> Sample {
    let out = Rc::new(RefCell::new(None));
    let o = out.clone();
    let mut rt = R::new();
    rt.block_on(async move {
        R::spawn(async move {
            let s = body.await;
            *o.borrow_mut() = Some(s);
            0
        })
        .await
    });
    let s = out.borrow_mut().take();
    s.unwrap()
}

async fn spawn_join<R: Rt>(n: u64) -> Sample {
    let mut hs = Vec::with_capacity(n as usize);
    let m = Meter::start();
    for i in 0..n {
        hs.push(R::spawn(async move { black_box(i) }));
    }
    let mut sum = 0u64;
    for h in hs.drain(..) {
        sum += h.await;
    }
    let r = m.stop(n);
    assert_eq!(sum, n * (n - 1) / 2);
    r
}

async fn spawn_burst<R: Rt>(n: u64) -> Sample {
    let sum = Rc::new(Cell::new(0u64));
    let latch = Latch::new(n);
    let m = Meter::start();
    for i in 0..n {
        let (s, l) = (sum.clone(), latch.clone());
        R::spawn_detached(async move {
            s.set(s.get() + black_box(i));
            l.down();
        });
    }
    latch.wait().await;
    let r = m.stop(n);
    assert_eq!(sum.get(), n * (n - 1) / 2);
    r
}

async fn spawn_await<R: Rt>(n: u64) -> Sample {
    let m = Meter::start();
    let mut sum = 0u64;
    for i in 0..n {
        sum += R::spawn(async move { black_box(i) }).await;
    }
    let r = m.stop(n);
    assert_eq!(sum, n * (n - 1) / 2);
    r
}

async fn yields<R: Rt>(n: u64, own: bool) -> Sample {
    let tasks = 1000;
    let each = n.div_ceil(tasks);
    let latch = Latch::new(tasks);
    let count = Rc::new(Cell::new(0u64));
    let m = Meter::start();
    for _ in 0..tasks {
        let (l, c) = (latch.clone(), count.clone());
        R::spawn_detached(async move {
            for _ in 0..each {
                if own {
                    R::yield_now().await;
                } else {
                    self_wake().await;
                }
                c.set(c.get() + 1);
            }
            l.down();
        });
    }
    latch.wait().await;
    let r = m.stop(tasks * each);
    assert_eq!(count.get(), tasks * each);
    r
}

async fn timer_insert_drop<R: Rt>(n: u64) -> Sample {
    let mut rng = Rng::new(42);
    let mut alive = Vec::with_capacity(10_000);
    for i in 0..10_000u64 {
        let mut s = Box::pin(R::sleep(Duration::from_micros(rng.range(10_000_000, 60_000_000))));
        assert!(!poll_once(s.as_mut()).await);
        alive.push(s);
        if i % 64 == 63 {
            self_wake().await; // cooperative budgets: a sleep polled without budget isn't registered
        }
    }
    let mut ready = 0u64;
    let mut m = Meter::start();
    for i in 0..n + n / 10 {
        if i == n / 10 {
            m = Meter::start();
        }
        {
            let mut s = pin!(R::sleep(Duration::from_micros(rng.range(1_000_000, 60_000_000))));
            ready += poll_once(s.as_mut()).await as u64;
        }
        if i % 64 == 63 {
            self_wake().await;
        }
    }
    let r = m.stop(n);
    assert_eq!(ready, 0);
    drop(black_box(alive));
    r
}

async fn timer_fire<R: Rt>(n: u64) -> Sample {
    let mut rng = Rng::new(7);
    let latch = Latch::new(n);
    let late = Rc::new(Cell::new(0u64));
    let m = Meter::start();
    for _ in 0..n {
        let d = Duration::from_nanos(rng.range(1_000, 200_000_000));
        let (l, late) = (latch.clone(), late.clone());
        R::spawn_detached(async move {
            let t = Instant::now();
            R::sleep(d).await;
            let e = t.elapsed();
            assert!(e >= d, "fired too early: {e:?} < {d:?}");
            late.set(late.get() + (e - d).as_nanos() as u64);
            l.down();
        });
    }
    latch.wait().await;
    let mut r = m.stop(n);
    r.extra = vec![("late_mean_us", late.get() as f64 / n as f64 / 1e3)];
    r
}

/// Ping-pong between the loop thread and a std thread. `idle`: the other
/// thread lets the loop fall asleep first (20 µs), and the time from its
/// wake() to the task's resumption is reported instead of the round trip.
async fn cross_wake(n: u64, idle: bool) -> Sample {
    struct Shared {
        req: AtomicU64,
        resp: AtomicU64,
        stamp: AtomicU64,
        waker: Mutex<Option<Waker>>,
        up: AtomicBool,
    }
    let sh =
        Arc::new(Shared { req: 0.into(), resp: 0.into(), stamp: 0.into(), waker: Mutex::new(None), up: false.into() });
    let s2 = sh.clone();
    let t0 = Instant::now();
    let th = std::thread::spawn(move || {
        sys::pin_to(1);
        s2.up.store(true, Ordering::Release);
        for i in 1..=n {
            while s2.req.load(Ordering::Acquire) < i {
                if idle {
                    std::hint::spin_loop();
                } else {
                    std::thread::park();
                }
            }
            if idle {
                let t = Instant::now();
                while t.elapsed() < Duration::from_micros(20) {
                    std::hint::spin_loop();
                }
                s2.stamp.store(t0.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
            s2.resp.store(i, Ordering::Release);
            let w = s2.waker.lock().unwrap().take();
            if let Some(w) = w {
                w.wake();
            }
        }
    });
    while !sh.up.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    let mut lat = 0u64;
    let m = Meter::start_thread();
    for i in 1..=n {
        sh.req.store(i, Ordering::Release);
        if !idle {
            th.thread().unpark();
        }
        poll_fn(|cx| {
            if sh.resp.load(Ordering::Acquire) >= i {
                return Poll::Ready(());
            }
            *sh.waker.lock().unwrap() = Some(cx.waker().clone());
            if sh.resp.load(Ordering::Acquire) >= i {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        if idle {
            lat += (t0.elapsed().as_nanos() as u64).saturating_sub(sh.stamp.load(Ordering::Relaxed));
        }
    }
    let mut r = m.stop(n);
    th.join().unwrap();
    if idle {
        r.ns = lat as f64 / n as f64;
    }
    r
}
