//! The arena's load generator: one thread, epoll, closed loop.
//!
//! load cert --cert FOLDER         makes the certificate for tls-echo
//! load echo|tls-echo|http|accept|udp --port P --pid PID [--path UNIX_SOCKET] [--cert FOLDER]
//!      [--conns C] [--size S] [--depth D] [--secs T] [--warmup W]
//! load idle --port P --pid PID --conns N
//!
//! Prints one JSON line. Every echoed byte is compared with what was sent.
//! `--pid` is the server, whose CPU time, context switches, RSS and (in an
//! extra phase after the measurement) system calls are reported.

use arena::{sys, Cli};
use rustls::{ClientConfig, ClientConnection};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

const PERIOD: usize = 65521; // prime: a lost or repeated block cannot match
const CHUNK: usize = 1 << 20;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: arena\r\n\r\n";

fn now() -> u64 {
    sys::clock_ns(libc::CLOCK_MONOTONIC)
}

fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn fail(what: &str) -> ! {
    println!("{{\"error\":\"{what}\"}}");
    std::process::exit(1)
}

/// Log-linear histogram of nanoseconds, 64 steps per power of two (1.6 %).
struct Hist {
    b: Vec<u64>,
    n: u64,
}
impl Hist {
    fn new() -> Hist {
        Hist { b: vec![0; 64 * 64], n: 0 }
    }
    fn index(v: u64) -> usize {
        if v < 64 {
            return v as usize;
        }
        let e = 63 - v.leading_zeros() as usize;
        (e - 5) * 64 + ((v >> (e - 6)) & 63) as usize
    }
    fn add(&mut self, v: u64, times: u64) {
        self.b[Self::index(v)] += times;
        self.n += times;
    }
    fn quantile_us(&self, q: f64) -> f64 {
        let want = ((self.n as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, c) in self.b.iter().enumerate() {
            seen += c;
            if seen >= want {
                let v = if i < 64 { i as f64 } else { (64 + i % 64) as f64 * 2f64.powi((i / 64) as i32 - 1) };
                return v / 1e3;
            }
        }
        0.0
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Echo,
    Http,
    Udp,
    Accept,
}

struct Conn {
    fd: i32,
    seed: usize,
    sent: u64,   // bytes written so far
    got: u64,    // bytes read so far
    target: u64, // bytes that may be written
    stamps: VecDeque<u64>,
    blocked: bool, // waiting for EPOLLOUT
    last: u64,     // time of the last progress (udp)
    tls: Option<Tls>,
}

struct Tls {
    session: ClientConnection,
    raw: Vec<u8>, // what was received, as it came
    fed: usize,   // so much of it the session has got
}

/// A descriptor, for rustls.
struct Fd(i32);

impl Read for Fd {
    fn read(&mut self, b: &mut [u8]) -> io::Result<usize> {
        check(unsafe { libc::recv(self.0, b.as_mut_ptr() as *mut _, b.len(), 0) })
    }
}

impl Write for Fd {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        check(unsafe { libc::send(self.0, b.as_ptr() as *const _, b.len(), libc::MSG_NOSIGNAL) })
    }
    fn write_vectored(&mut self, b: &[io::IoSlice<'_>]) -> io::Result<usize> {
        check(unsafe { libc::writev(self.0, b.as_ptr() as *const libc::iovec, b.len() as i32) })
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check(n: isize) -> io::Result<usize> {
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(n as usize)
}

impl Tls {
    /// Does the handshake, blocking.
    fn new(config: &Arc<ClientConfig>, fd: i32) -> Tls {
        let mut session = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
        while session.is_handshaking() {
            if let Err(e) = session.complete_io(&mut Fd(fd)) {
                fail(&format!("handshake: {e}"));
            }
        }
        Tls { session, raw: Vec::with_capacity(256 * 1024), fed: 0 }
    }

    /// Sends what is encrypted; false if there is no room for it.
    fn flush(&mut self, fd: i32) -> bool {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Fd(fd)) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) => fail(&format!("send: {e}")),
            }
        }
        true
    }

    fn recv(&mut self, fd: i32, b: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(b) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.fed == self.raw.len() {
                self.raw.resize(256 * 1024, 0);
                self.fed = 0;
                let n = Fd(fd).read(&mut self.raw);
                self.raw.truncate(*n.as_ref().unwrap_or(&0));
                if n? == 0 {
                    return Ok(0);
                }
            }
            self.fed += self.session.read_tls(&mut &self.raw[self.fed..])?;
            self.session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

struct Load {
    kind: Kind,
    size: u64,
    depth: u64,
    pattern: Vec<u8>,
    ep: i32,
    conns: Vec<Conn>,
    rbuf: Vec<u8>,
    hist: Hist,
    done: u64,
    lost: u64,
    resp_len: u64,
    resp: Vec<u8>,
    addr: Addr,
}

#[derive(Clone)]
enum Addr {
    Inet(libc::sockaddr_in),
    Unix(libc::sockaddr_un, u32),
}

impl Addr {
    fn of(cli: &Cli) -> Addr {
        unsafe {
            if let Some(p) = cli.opts.get("path") {
                let mut a: libc::sockaddr_un = std::mem::zeroed();
                a.sun_family = libc::AF_UNIX as u16;
                for (d, s) in a.sun_path.iter_mut().zip(p.bytes()) {
                    *d = s as _;
                }
                return Addr::Unix(a, 2 + p.len() as u32 + 1);
            }
            let mut a: libc::sockaddr_in = std::mem::zeroed();
            a.sin_family = libc::AF_INET as u16;
            a.sin_port = cli.port().to_be();
            a.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            Addr::Inet(a)
        }
    }
    fn open(&self, udp: bool, nonblock: bool) -> i32 {
        unsafe {
            let (dom, p, len) = match self {
                Addr::Inet(a) => {
                    (libc::AF_INET, a as *const _ as *const libc::sockaddr, std::mem::size_of_val(a) as u32)
                }
                Addr::Unix(a, l) => (libc::AF_UNIX, a as *const _ as *const libc::sockaddr, *l),
            };
            let ty = if udp { libc::SOCK_DGRAM } else { libc::SOCK_STREAM };
            let nb = if nonblock { libc::SOCK_NONBLOCK } else { 0 };
            let fd = libc::socket(dom, ty | libc::SOCK_CLOEXEC | nb, 0);
            if fd < 0 {
                fail("socket");
            }
            if dom == libc::AF_INET && !udp {
                let one = 1i32;
                libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &one as *const i32 as *const _, 4);
                arena::net::reno(fd);
                let l = libc::linger { l_onoff: 1, l_linger: 0 }; // no TIME_WAIT
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    &l as *const _ as *const _,
                    std::mem::size_of_val(&l) as u32,
                );
            }
            if libc::connect(fd, p, len) < 0 && last_errno() != libc::EINPROGRESS {
                fail(&format!("connect: {}", std::io::Error::last_os_error()));
            }
            fd
        }
    }
}

impl Load {
    fn watch(&self, i: usize, add: bool, events: i32) {
        let mut ev = libc::epoll_event { events: events as u32, u64: i as u64 };
        let op = if add { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_MOD };
        unsafe {
            if libc::epoll_ctl(self.ep, op, self.conns[i].fd, &mut ev) < 0 {
                fail("epoll_ctl");
            }
        }
    }

    fn req_len(&self) -> u64 {
        if self.kind == Kind::Http {
            REQUEST.len() as u64
        } else {
            self.size
        }
    }

    fn send(&mut self, i: usize, t: u64) {
        let rl = self.req_len();
        let c = &mut self.conns[i];
        if let Some(tls) = &mut c.tls {
            if tls.flush(c.fd) && c.sent < c.target {
                let (at, len) = ((c.seed + c.sent as usize) % PERIOD, (c.target - c.sent) as usize);
                let n = tls.session.writer().write(&self.pattern[at..][..len.min(CHUNK)]).unwrap();
                let before = c.sent.div_ceil(rl);
                c.sent += n as u64;
                for _ in before..c.sent.div_ceil(rl) {
                    c.stamps.push_back(t);
                }
            }
            if !tls.flush(c.fd) || c.sent < c.target {
                if !std::mem::replace(&mut c.blocked, true) {
                    self.watch(i, false, libc::EPOLLIN | libc::EPOLLOUT);
                }
                return;
            }
        }
        while c.sent < c.target {
            let want = c.target - c.sent;
            let (p, len) = match self.kind {
                Kind::Udp => (&self.pattern[(c.seed + c.sent as usize) % PERIOD..], rl as usize),
                Kind::Http => (&self.pattern[(c.sent % rl) as usize..], want as usize),
                _ => (&self.pattern[(c.seed + c.sent as usize) % PERIOD..], (want as usize).min(CHUNK)),
            };
            let n = unsafe { libc::send(c.fd, p.as_ptr() as *const _, len, libc::MSG_NOSIGNAL) };
            if n < 0 {
                if last_errno() == libc::EAGAIN {
                    if !c.blocked {
                        c.blocked = true;
                        self.watch(i, false, libc::EPOLLIN | libc::EPOLLOUT);
                    }
                    return;
                }
                fail(&format!("send: {}", std::io::Error::last_os_error()));
            }
            let before = c.sent.div_ceil(rl);
            c.sent += n as u64;
            for _ in before..c.sent.div_ceil(rl) {
                c.stamps.push_back(t);
            }
            c.last = t;
        }
        if c.blocked {
            c.blocked = false;
            self.watch(i, false, libc::EPOLLIN);
        }
    }

    fn recv(&mut self, i: usize) {
        let rl = self.req_len();
        loop {
            let c = &mut self.conns[i];
            let received = match &mut c.tls {
                Some(tls) => tls.recv(c.fd, &mut self.rbuf),
                None => Fd(c.fd).read(&mut self.rbuf),
            };
            let n = match received {
                Ok(n) => n as isize,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => fail(&format!("recv: {e}")),
            };
            if n == 0 {
                fail("server closed the connection");
            }
            let t = now();
            let b = &self.rbuf[..n as usize];
            let unit = match self.kind {
                Kind::Http => {
                    if self.resp_len == 0 {
                        self.resp = b.to_vec();
                        self.resp_len = first_response(b);
                    }
                    // status line and body of every response that starts in this block
                    let (rlen, off) = (self.resp_len as usize, c.got as usize % self.resp_len as usize);
                    let mut at = (rlen - off) % rlen;
                    while at < b.len() {
                        let k = (b.len() - at).min(15);
                        if b[at..at + k] != self.resp[..k] {
                            fail("unexpected response");
                        }
                        if at + rlen <= b.len() && b[at + rlen - 13..at + rlen] != self.resp[rlen - 13..rlen] {
                            fail("unexpected body");
                        }
                        at += rlen;
                    }
                    self.resp_len
                }
                Kind::Udp => {
                    let s = (c.seed + c.got as usize) % PERIOD;
                    if n as u64 != rl || b != &self.pattern[s..s + b.len()] {
                        // late answer to a request counted as lost
                        continue;
                    }
                    rl
                }
                _ => {
                    let s = (c.seed + c.got as usize) % PERIOD;
                    if b != &self.pattern[s..s + b.len()] {
                        fail("echoed bytes differ");
                    }
                    rl
                }
            };
            let full = (c.got + n as u64) / unit - c.got / unit;
            c.got += n as u64;
            for _ in 0..full {
                let s = c.stamps.pop_front().unwrap_or(t);
                self.hist.add(t - s, 1);
            }
            self.done += full;
            c.target += full * rl;
            let short = (n as usize) < self.rbuf.len() && c.tls.is_none();
            if full > 0 && !c.blocked {
                self.send(i, t);
            }
            if short && self.kind != Kind::Udp {
                return; // level-triggered: anything new is reported again
            }
        }
    }

    fn accept_round(&mut self, i: usize) {
        // the server has closed: reconnect
        let mut b = [0u8; 16];
        let n = unsafe { libc::recv(self.conns[i].fd, b.as_mut_ptr() as *mut _, 16, 0) };
        if n < 0 && last_errno() == libc::EAGAIN {
            return;
        }
        if n != 0 {
            fail("accept: unexpected data or error");
        }
        let t = now();
        let s = self.conns[i].stamps.pop_front().unwrap();
        self.hist.add(t - s, 1);
        self.done += 1;
        unsafe { libc::close(self.conns[i].fd) };
        self.connect_again(i);
    }

    fn connect_again(&mut self, i: usize) {
        let t = now();
        self.conns[i].fd = self.addr.open(false, true);
        self.conns[i].stamps.push_back(t);
        self.watch(i, true, libc::EPOLLIN);
    }

    /// Runs until `t_end`; returns the elapsed nanoseconds.
    fn run(&mut self, secs: f64) -> u64 {
        let t0 = now();
        let end = t0 + (secs * 1e9) as u64;
        let mut evs: Vec<libc::epoll_event> = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
        let mut last_check = t0;
        loop {
            let n = unsafe { libc::epoll_wait(self.ep, evs.as_mut_ptr(), 1024, 10) };
            for e in &evs[..n.max(0) as usize] {
                let i = e.u64 as usize;
                if self.kind == Kind::Accept {
                    self.accept_round(i);
                    continue;
                }
                if e.events & libc::EPOLLOUT as u32 != 0 {
                    let t = now();
                    self.send(i, t);
                }
                if e.events & !(libc::EPOLLOUT as u32) != 0 {
                    self.recv(i);
                }
            }
            let t = now();
            if self.kind == Kind::Udp && t - last_check > 100_000_000 {
                last_check = t;
                self.resend_stalled(t);
            }
            if t >= end {
                return t - t0;
            }
        }
    }

    /// UDP only: what wasn't answered within 200 ms counts as lost.
    fn resend_stalled(&mut self, t: u64) {
        for i in 0..self.conns.len() {
            let rl = self.size;
            let c = &mut self.conns[i];
            if t - c.last > 200_000_000 {
                let missing = c.stamps.len() as u64;
                self.lost += missing;
                c.stamps.clear();
                c.got = c.sent;
                c.target = c.sent + self.depth * rl;
                self.send(i, t);
            }
        }
    }
}

fn first_response(b: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(b).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") {
        fail("not a 200 response");
    }
    let head = text.find("\r\n\r\n").unwrap_or_else(|| fail("response head split")) + 4;
    let len: usize = text
        .lines()
        .find_map(|l| l.strip_prefix("content-length:"))
        .and_then(|v| v.trim().parse().ok())
        .unwrap_or_else(|| fail("no content-length"));
    if !b[head..].starts_with(b"Hello, World!") || len != 13 {
        fail("unexpected body");
    }
    (head + len) as u64
}

fn idle(cli: &Cli, pid: i32) {
    let n = cli.num("conns", 10_000.0) as usize;
    let addr = Addr::of(cli);
    let rss0 = sys::proc_rss_kib(pid);
    let mut fds = vec![];
    let (c0, t0) = (sys::proc_cpu_ns(pid), Instant::now());
    for i in 0..n {
        let fd = addr.open(false, false);
        let msg = [i as u8; 64];
        let mut got = [0u8; 64];
        unsafe {
            libc::send(fd, msg.as_ptr() as *const _, 64, 0);
            let r = libc::recv(fd, got.as_mut_ptr() as *mut _, 64, libc::MSG_WAITALL);
            if r != 64 || got != msg {
                fail(&format!("connection {i}: no echo ({r})"));
            }
        }
        fds.push(fd);
    }
    let (open_cpu, open_s) = (sys::proc_cpu_ns(pid) - c0, t0.elapsed().as_secs_f64());
    std::thread::sleep(std::time::Duration::from_millis(300));
    let rss1 = sys::proc_rss_kib(pid);
    let c1 = sys::proc_cpu_ns(pid);
    std::thread::sleep(std::time::Duration::from_millis(700));
    let idle_cpu = sys::proc_cpu_ns(pid) - c1;
    println!(
        "{{\"conns\":{n},\"server_rss_before_kib\":{rss0},\"server_rss_kib\":{rss1},\"rss_bytes_per_conn\":{:.0},\"idle_cpu_us_per_s\":{:.1},\"connect_cpu_us\":{:.2},\"open_secs\":{open_s:.2}}}",
        (rss1 - rss0) as f64 * 1024.0 / n as f64,
        idle_cpu as f64 / 0.7 / 1e3,
        open_cpu as f64 / n as f64 / 1e3,
    );
}

fn main() {
    let cli = Cli::parse();
    sys::raise_nofile();
    sys::pin_to(cli.num("cpu", 1.0) as usize);
    let pid = cli.num("pid", 0.0) as i32;
    let kind = match cli.pos.first().map(|s| s.as_str()) {
        Some("cert") => return arena::tls::make(&cli.opts["cert"]),
        Some("echo" | "tls-echo") => Kind::Echo,
        Some("http") => Kind::Http,
        Some("udp") => Kind::Udp,
        Some("accept") => Kind::Accept,
        Some("idle") => return idle(&cli, pid),
        _ => arena::die("load cert|echo|tls-echo|http|udp|accept|idle"),
    };
    let conns = cli.num("conns", 50.0) as usize;
    let size = cli.num("size", 64.0) as u64;
    let depth = cli.num("depth", 1.0) as u64;
    let pattern: Vec<u8> = if kind == Kind::Http {
        REQUEST.repeat(depth as usize + 1)
    } else {
        let mut rng = arena::Rng::new(99);
        let base: Vec<u8> = (0..PERIOD).map(|_| rng.next() as u8).collect();
        (0..PERIOD + CHUNK).map(|i| base[i % PERIOD]).collect()
    };
    let tls = (cli.pos[0] == "tls-echo").then(|| arena::tls::client(&cli));
    let mut l = Load {
        kind,
        size,
        depth,
        pattern,
        ep: unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) },
        conns: vec![],
        rbuf: vec![0; 256 * 1024],
        hist: Hist::new(),
        done: 0,
        lost: 0,
        resp_len: 0,
        resp: vec![],
        addr: Addr::of(&cli),
    };
    for i in 0..conns {
        let mut c = Conn {
            fd: -1,
            seed: i * 7919 % PERIOD,
            sent: 0,
            got: 0,
            target: 0,
            stamps: VecDeque::new(),
            blocked: false,
            last: 0,
            tls: None,
        };
        if kind == Kind::Accept {
            l.conns.push(c);
            l.connect_again(i);
            continue;
        }
        let fd = l.addr.open(kind == Kind::Udp, false);
        c.tls = tls.as_ref().map(|config| Tls::new(config, fd));
        unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
        c.fd = fd;
        l.conns.push(c);
        l.watch(i, true, libc::EPOLLIN);
    }
    if kind != Kind::Accept {
        let rl = l.req_len();
        for i in 0..conns {
            l.conns[i].target = depth * rl;
            let t = now();
            l.send(i, t);
        }
    }
    l.run(cli.num("warmup", 0.3));

    let snap = || {
        (
            sys::proc_cpu_ns(pid),
            sys::proc_ticks(pid),
            sys::proc_ctxsw(pid),
            sys::clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID),
        )
    };
    (l.hist, l.done, l.lost) = (Hist::new(), 0, 0);
    let a = snap();
    let ns = l.run(cli.num("secs", 1.0));
    let b = snap();
    let rss = sys::proc_rss_kib(pid);
    let (done, lost) = (l.done, l.lost);
    if done == 0 {
        fail("no progress");
    }
    let q = (l.hist.quantile_us(0.5), l.hist.quantile_us(0.99), l.hist.quantile_us(0.999));
    // an extra phase, as the tracepoint makes every system call slower
    let sc = match SyscallPhase::maybe(&cli, pid) {
        Some(c) => {
            l.done = 0;
            let s0 = c.read();
            l.run(0.15);
            format!("{:.3}", (c.read() - s0) as f64 / l.done.max(1) as f64)
        }
        None => "null".into(),
    };
    let d = done as f64;
    println!(
        "{{\"conns\":{conns},\"size\":{size},\"depth\":{depth},\"secs\":{:.3},\"requests\":{done},\"lost\":{lost},\"rps\":{:.0},\
         \"p50_us\":{:.2},\"p99_us\":{:.2},\"p999_us\":{:.2},\"server_cpu_us_per_req\":{:.4},\"server_util\":{:.3},\
         \"server_user_share\":{:.2},\"server_ctx_switches\":{},\"server_ctxsw_per_req\":{:.4},\"server_rss_kib\":{rss},\
         \"server_syscalls_per_req\":{sc},\"load_util\":{:.3}}}",
        ns as f64 / 1e9,
        d * 1e9 / ns as f64,
        q.0,
        q.1,
        q.2,
        (b.0 - a.0) as f64 / d / 1e3,
        (b.0 - a.0) as f64 / ns as f64,
        {
            let (u, s) = (b.1 .0 - a.1 .0, b.1 .1 - a.1 .1);
            u as f64 / (u + s).max(1) as f64
        },
        b.2 - a.2,
        (b.2 - a.2) as f64 / d,
        (b.3 - a.3) as f64 / ns as f64,
    );
}

struct SyscallPhase;
impl SyscallPhase {
    fn maybe(cli: &Cli, pid: i32) -> Option<sys::SyscallCounter> {
        if cli.opts.contains_key("no-syscalls") {
            return None;
        }
        sys::SyscallCounter::open(pid)
    }
}
