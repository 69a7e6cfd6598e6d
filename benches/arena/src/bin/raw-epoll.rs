//! Hand-written edge-triggered epoll servers: the "physical limit" of
//! readiness-based I/O. One shared read buffer; a connection gets memory of
//! its own only while its peer doesn't take what was sent.

use arena::{net, Cli, Peer};
use std::os::fd::AsRawFd;

#[derive(Default)]
struct Conn {
    pending: Vec<u8>, // not yet written
    open: bool,
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn ctl(ep: i32, fd: i32, events: i32) {
    let mut ev = libc::epoll_event { events: events as u32, u64: fd as u64 };
    unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, fd, &mut ev) };
}

/// What a connection waits for: to write only while something is pending.
/// Changing it makes a new edge of whatever is ready already.
fn rearm(ep: i32, fd: i32, out: bool) {
    let out = if out { libc::EPOLLOUT } else { 0 };
    let mut ev = libc::epoll_event { events: (IN | out) as u32, u64: fd as u64 };
    unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_MOD, fd, &mut ev) };
}

const IN: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;

/// `handle(input, output)`: what to answer to the bytes read; None = echo them.
fn serve(listener: i32, buf: usize, http: bool) -> ! {
    let ep = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    ctl(ep, listener, libc::EPOLLIN);
    let mut conns: Vec<Conn> = vec![];
    let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut rbuf = vec![0u8; buf];
    let mut out: Vec<u8> = vec![];
    loop {
        let n = unsafe { libc::epoll_wait(ep, evs.as_mut_ptr(), 1024, -1) };
        for k in 0..n.max(0) as usize {
            let (fd, what) = (evs[k].u64 as i32, evs[k].events);
            if fd == listener {
                loop {
                    let c = unsafe {
                        libc::accept4(
                            listener,
                            std::ptr::null_mut(),
                            std::ptr::null_mut(),
                            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                        )
                    };
                    if c < 0 {
                        break;
                    }
                    if conns.len() <= c as usize {
                        conns.resize_with(c as usize + 1, Conn::default);
                    }
                    conns[c as usize] = Conn { pending: vec![], open: true };
                    ctl(ep, c, IN);
                }
                continue;
            }
            let c = &mut conns[fd as usize];
            if !c.open {
                continue;
            }
            let mut close = false;
            // first what is left over from before
            if what & libc::EPOLLOUT as u32 != 0 && !c.pending.is_empty() {
                let w = unsafe { libc::send(fd, c.pending.as_ptr() as *const _, c.pending.len(), libc::MSG_NOSIGNAL) };
                if w > 0 {
                    c.pending.drain(..w as usize);
                    if c.pending.is_empty() {
                        c.pending = vec![];
                        rearm(ep, fd, false);
                    }
                } else if w < 0 && errno() != libc::EAGAIN {
                    close = true;
                }
            }
            // then read, unless the peer doesn't read
            while !close && c.pending.is_empty() {
                let r = unsafe { libc::recv(fd, rbuf.as_mut_ptr() as *mut _, rbuf.len(), 0) };
                if r == 0 || (r < 0 && errno() != libc::EAGAIN) {
                    close = true;
                    break;
                }
                if r < 0 {
                    break;
                }
                let input = &rbuf[..r as usize];
                let reply: &[u8] = if http {
                    out.clear();
                    // our load generator never splits a request
                    let mut at = 0;
                    while let Some(p) = input[at..].windows(4).position(|w| w == b"\r\n\r\n") {
                        out.extend_from_slice(net::HTTP_RESPONSE);
                        at += p + 4;
                    }
                    &out
                } else {
                    input
                };
                let w = unsafe { libc::send(fd, reply.as_ptr() as *const _, reply.len(), libc::MSG_NOSIGNAL) };
                if w < 0 && errno() != libc::EAGAIN {
                    close = true;
                    break;
                }
                let w = w.max(0) as usize;
                if w < reply.len() {
                    c.pending = reply[w..].to_vec();
                    rearm(ep, fd, true);
                    break;
                }
                // A short read means the socket is drained; new data make a new
                // edge. Not so when the peer has hung up: read up to the EOF.
                if (r as usize) < rbuf.len() && what & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 == 0
                {
                    break;
                }
            }
            if close {
                c.open = false;
                c.pending = vec![];
                unsafe { libc::close(fd) };
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

fn udp(c: &Cli) {
    let s = net::bind_udp(c);
    let fd = s.as_raw_fd();
    let ep = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    ctl(ep, fd, libc::EPOLLIN | libc::EPOLLET);
    let mut b = vec![0u8; c.buf];
    let mut ev = libc::epoll_event { events: 0, u64: 0 };
    loop {
        unsafe {
            libc::epoll_wait(ep, &mut ev, 1, -1);
            loop {
                let mut a: libc::sockaddr_in = std::mem::zeroed();
                let mut al = std::mem::size_of_val(&a) as u32;
                let n = libc::recvfrom(fd, b.as_mut_ptr() as *mut _, b.len(), 0, &mut a as *mut _ as *mut _, &mut al);
                if n < 0 {
                    break;
                }
                libc::sendto(fd, b.as_ptr() as *const _, n as usize, 0, &a as *const _ as *const _, al);
            }
        }
    }
}

fn accept(c: &Cli) {
    let l = net::listen_tcp(c);
    let ep = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    ctl(ep, l.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET);
    let mut ev = libc::epoll_event { events: 0, u64: 0 };
    loop {
        unsafe {
            libc::epoll_wait(ep, &mut ev, 1, -1);
            loop {
                let fd = libc::accept4(
                    l.as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                );
                if fd < 0 {
                    break;
                }
                libc::close(fd);
            }
        }
    }
}

fn main() {
    arena::main(vec![Peer::new("raw-epoll")
        .serve("echo", echo)
        .serve("echo-unix", echo_unix)
        .serve("udp-echo", udp)
        .serve("accept", accept)
        .serve("http", http)])
}
