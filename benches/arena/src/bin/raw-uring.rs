//! Hand-written io_uring servers: the "physical limit" of completion-based
//! I/O. Multishot accept into direct descriptors, multishot receive with a
//! provided buffer ring, one io_uring_enter per turn which submits all sends
//! of that turn and waits for the next completion.

use arena::{net, Cli, Peer};
use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{cqueue, opcode, squeue, IoUring, Submitter};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

const NBUFS: u16 = 1024;
const NFILES: u32 = 16384;
const ACCEPT: u64 = 1 << 56;
const RECV: u64 = 2 << 56;
const SEND: u64 = 3 << 56;
const CLOSE: u64 = 4 << 56;

fn map(len: usize) -> *mut u8 {
    let p = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert!(p != libc::MAP_FAILED);
    p as *mut u8
}

/// The provided buffer ring. Buffers are staggered, so that they don't all
/// fall into the same cache sets.
struct Bufs {
    ring: *mut BufRingEntry,
    mem: *mut u8,
    size: usize,
    stride: usize,
    tail: u16,
}

impl Bufs {
    fn new(sub: &Submitter, size: usize) -> Bufs {
        let stride = size + 4096 + 64;
        let ring = map(NBUFS as usize * 16) as *mut BufRingEntry;
        let mut b = Bufs { ring, mem: map(NBUFS as usize * stride), size, stride, tail: 0 };
        unsafe { sub.register_buf_ring_with_flags(ring as u64, NBUFS, 0, 0).unwrap() };
        for i in 0..NBUFS {
            b.give(i);
        }
        b
    }
    fn ptr(&self, bid: u16) -> *mut u8 {
        unsafe { self.mem.add(bid as usize * self.stride) }
    }
    fn give(&mut self, bid: u16) {
        unsafe {
            let e = &mut *self.ring.add((self.tail & (NBUFS - 1)) as usize);
            e.set_addr(self.ptr(bid) as u64);
            e.set_len(self.size as u32);
            e.set_bid(bid);
            self.tail = self.tail.wrapping_add(1);
            let t = BufRingEntry::tail(self.ring) as *const AtomicU16;
            (*t).store(self.tail, Ordering::Release);
        }
    }
}

#[derive(Default)]
struct Conn {
    queue: VecDeque<(*const u8, u32, Option<u16>)>, // head is being sent
    receiving: bool,
    closing: bool,
}

struct Server {
    sub: Submitter<'static>,
    sq: squeue::SubmissionQueue<'static>,
    cq: cqueue::CompletionQueue<'static>,
    backlog: VecDeque<squeue::Entry>,
}

impl Server {
    fn new() -> Server {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(16384)
            .build(4096)
            .unwrap();
        let (mut sub, sq, cq) = Box::leak(Box::new(ring)).split();
        sub.register_files_sparse(NFILES).unwrap();
        sub.register_ring_fd().unwrap();
        Server { sub, sq, cq, backlog: VecDeque::new() }
    }
    fn push(&mut self, e: squeue::Entry) {
        if !self.backlog.is_empty() || unsafe { self.sq.push(&e) }.is_err() {
            self.backlog.push_back(e);
        }
    }
    /// Submits everything, waits for a completion, collects all there are.
    fn turn(&mut self, cqes: &mut Vec<(u64, i32, u32)>) {
        loop {
            while let Some(e) = self.backlog.front() {
                if unsafe { self.sq.push(e) }.is_err() {
                    break;
                }
                self.backlog.pop_front();
            }
            self.sq.sync();
            let want = self.backlog.is_empty() as usize;
            let _ = self.sub.submit_and_wait(want);
            self.sq.sync();
            if want == 1 {
                break;
            }
        }
        self.cq.sync();
        cqes.clear();
        cqes.extend((&mut self.cq).map(|c| (c.user_data(), c.result(), c.flags())));
        self.cq.sync();
    }
}

fn serve(listener: i32, buf: usize, http: bool) -> ! {
    let mut s = Server::new();
    let mut bufs = Bufs::new(&s.sub, buf);
    let mut conns: Vec<Conn> = vec![];
    conns.resize_with(NFILES as usize, Conn::default);
    let responses = net::HTTP_RESPONSE.repeat(1024);
    let mut starved: Vec<usize> = vec![];
    let mut cqes: Vec<(u64, i32, u32)> = vec![];
    let accept = || opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true).build().user_data(ACCEPT);
    let recv = |i: usize| opcode::RecvMulti::new(Fixed(i as u32), 0).build().user_data(RECV | i as u64);
    let send = |i: usize, p: *const u8, n: u32| {
        opcode::Send::new(Fixed(i as u32), p, n)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SEND | i as u64)
    };
    s.push(accept());
    loop {
        s.turn(&mut cqes);
        let mut freed = false;
        for &(ud, res, flags) in &cqes {
            let i = (ud & 0xff_ffff) as usize;
            match ud & !0xff_ffff {
                ACCEPT => {
                    if res >= 0 {
                        let i = res as usize;
                        conns[i] = Conn { receiving: true, ..Default::default() };
                        s.push(recv(i));
                    }
                    if !cqueue::more(flags) {
                        s.push(accept());
                    }
                    continue;
                }
                RECV => {
                    let c = &mut conns[i];
                    c.receiving = cqueue::more(flags);
                    if res > 0 {
                        let bid = cqueue::buffer_select(flags).unwrap();
                        let idle = c.queue.is_empty();
                        if http {
                            let input = unsafe { std::slice::from_raw_parts(bufs.ptr(bid), res as usize) };
                            let k = input.windows(4).filter(|w| w == b"\r\n\r\n").count();
                            c.queue.push_back((responses.as_ptr(), (k * net::HTTP_RESPONSE.len()) as u32, None));
                            bufs.give(bid);
                            freed = true;
                        } else {
                            c.queue.push_back((bufs.ptr(bid), res as u32, Some(bid)));
                        }
                        if idle {
                            let (p, n, _) = c.queue[0];
                            s.push(send(i, p, n));
                        }
                    }
                    let c = &mut conns[i];
                    if res == -libc::ENOBUFS {
                        starved.push(i);
                    } else if res <= 0 {
                        c.closing = true;
                    } else if !c.receiving {
                        c.receiving = true;
                        s.push(recv(i));
                    }
                }
                SEND => {
                    let c = &mut conns[i];
                    let (_, n, bid) = c.queue.pop_front().unwrap();
                    if let Some(b) = bid {
                        bufs.give(b);
                        freed = true;
                    }
                    if res != n as i32 {
                        c.closing = true;
                        for (_, _, b) in c.queue.drain(..) {
                            if let Some(b) = b {
                                bufs.give(b);
                                freed = true;
                            }
                        }
                        if c.receiving {
                            // wake the receive up with an EOF, so that it ends
                            s.push(opcode::Shutdown::new(Fixed(i as u32), libc::SHUT_RDWR).build().user_data(CLOSE));
                        }
                    } else if let Some(&(p, n, _)) = c.queue.front() {
                        s.push(send(i, p, n));
                    }
                }
                _ => continue,
            }
            let c = &mut conns[i];
            if c.closing && !c.receiving && c.queue.is_empty() {
                c.closing = false;
                s.push(opcode::Close::new(Fixed(i as u32)).build().user_data(CLOSE));
            }
        }
        if freed {
            for i in starved.drain(..) {
                if !conns[i].closing {
                    conns[i].receiving = true;
                    s.push(recv(i));
                }
            }
        }
    }
}

fn echo(c: &Cli) {
    let l = net::listen_tcp(c);
    serve(l.as_raw_fd(), c.buf, false)
}

fn echo_unix(c: &Cli) {
    let l = net::listen_unix(c);
    serve(l.as_raw_fd(), c.buf, false)
}

fn http(c: &Cli) {
    let l = net::listen_tcp(c);
    serve(l.as_raw_fd(), c.buf, true)
}

fn accept(c: &Cli) {
    let l = net::listen_tcp(c);
    let fd = l.as_raw_fd();
    let mut s = Server::new();
    let arm = || opcode::AcceptMulti::new(Fd(fd)).allocate_file_index(true).build().user_data(ACCEPT);
    s.push(arm());
    let mut cqes = vec![];
    loop {
        s.turn(&mut cqes);
        for &(ud, res, flags) in &cqes {
            if ud == ACCEPT {
                if res >= 0 {
                    s.push(
                        opcode::Close::new(Fixed(res as u32))
                            .build()
                            .flags(squeue::Flags::SKIP_SUCCESS)
                            .user_data(CLOSE),
                    );
                }
                if !cqueue::more(flags) {
                    s.push(arm());
                }
            }
        }
    }
}

fn main() {
    arena::main(vec![Peer::new("raw-uring")
        .serve("echo", echo)
        .serve("echo-unix", echo_unix)
        .serve("accept", accept)
        .serve("http", http)])
}
