//! hyper's servers and clients, by HTTP/1.1 and HTTP/2, plain and behind TLS, beside curl and Python.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use roundelay::compat::{HyperExecutor, HyperTimer};
use roundelay::{CancelOnDrop, EventLoop, TcpListener, TcpStream, TlsAcceptor, UnixStream, sleep, spawn};
use roundelay_ecosystem::find;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{alone, complete, on_manual_clock, settle, take_reports};
use crate::identity::Identity;
use crate::program::{Running, available, example};
use crate::{on_each_selector, output, with};

type Body = http_body_util::Either<Full<Bytes>, Incoming>;

/// What the requests of a server share.
#[derive(Default)]
struct Site {
    requests: Cell<u64>,
    versions: RefCell<Vec<Version>>,
}

async fn answer(site: Rc<Site>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    site.requests.set(site.requests.get() + 1);
    site.versions.borrow_mut().push(request.version());
    let text = |text: Vec<u8>| Response::new(Body::Left(Full::new(text.into())));
    Ok(match request.uri().path() {
        "/echo" => Response::new(Body::Right(request.into_body())),
        "/panic" => panic!("as asked for"),
        path => match path[1..].parse() {
            Ok(length) => text(vec![b'x'; length]),
            Err(_) => text(b"hello\n".to_vec()),
        },
    })
}

async fn talk(site: &Rc<Site>, stream: impl Read + Write + Unpin + 'static) {
    let site = site.clone();
    let service = service_fn(move |request| answer(site.clone(), request));
    let _ = Builder::new(HyperExecutor).serve_connection(stream, service).await;
}

/// A server that ends when it is dropped.
struct Served {
    address: SocketAddr,
    site: Rc<Site>,
    _task: CancelOnDrop<()>,
}

impl Served {
    async fn new(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = Rc::new(Site::default());
        let shared = site.clone();
        let task = spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (site, tls) = (shared.clone(), tls.clone());
                drop(spawn(async move {
                    match tls {
                        None => talk(&site, stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                talk(&site, stream).await;
                            }
                        }
                    }
                }));
            }
        });
        Self { address, site, _task: task.cancel_on_drop() }
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }
}

fn curl(args: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--ipv4", "--max-time", "60"]).args(args);
    command
}

/// Whether curl is there, and speaks HTTP/2.
fn curl_is_there() -> Option<()> {
    let speaks = available("curl") && {
        let version = Command::new("curl").arg("--version").stdin(Stdio::null()).output().unwrap();
        let speaks = String::from_utf8_lossy(&version.stdout).contains("HTTP2");
        if !speaks {
            eprintln!("skipped: this curl speaks no HTTP/2");
        }
        speaks
    };
    speaks.then_some(())
}

/// curl speaks either version, by what it knows or by what is agreed on, posts, and has many requests under way at once.
#[test]
fn curl_speaks_both_versions() {
    with(
        || curl_is_there().map(|()| Identity::new()),
        async |_, identity| {
            let tls = Served::new(Some(identity.acceptor(&["h2", "http/1.1"]))).await;
            let plain = Served::new(None).await;
            let ca = identity.path("cert.pem");
            let posted = identity.path("posted");
            let data: Vec<u8> = (0..3_000_000_u32).map(|i| i as u8).collect();
            fs::write(&posted, &data).unwrap();
            let cases = [
                (&plain, "http", "--http1.1", Version::HTTP_11, "1.1"),
                (&plain, "http", "--http2-prior-knowledge", Version::HTTP_2, "2"),
                (&tls, "https", "--http1.1", Version::HTTP_11, "1.1"),
                (&tls, "https", "--http2", Version::HTTP_2, "2"),
            ];
            for (served, scheme, how, version, number) in cases {
                // Not all of curl's versions can use a connection again that begins with HTTP/2.
                let count = if how == "--http2-prior-knowledge" { 1 } else { 30 };
                let many: Vec<String> = (0..count).map(|n| served.url(scheme, &format!("/{}", n * 1000))).collect();
                let mut command = curl(&[how, "--cacert", &ca, "--write-out", "%{http_version} %{size_download}\n"]);
                command.args(["--parallel", "--remote-name-all", "--output-dir"]).arg(identity.folder.path());
                command.args(&many);
                let shown = output(command).await;
                let mut shown: Vec<&str> = shown.lines().collect();
                shown.sort_by_key(|line| (line.len(), *line));
                let expected: Vec<String> = (0..count).map(|n| format!("{number} {}", n * 1000)).collect();
                assert_eq!(shown, expected, "{scheme} {how}");
                let echoed = identity.path("echoed");
                let mut command = curl(&[how, "--cacert", &ca, "--output", &echoed, "--data-binary"]);
                command.args([format!("@{posted}"), served.url(scheme, "/echo")]);
                output(command).await;
                assert!(fs::read(&echoed).unwrap() == data, "{scheme} {how}");
                assert_eq!(served.site.requests.take(), count + 1);
                assert!(served.site.versions.take().iter().all(|&used| used == version));
            }
        },
    );
}

/// Python's client asks many times by one connection, and posts in chunks.
#[test]
fn python_asks() {
    const CLIENT: &str = r#"
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
for n in range(200):
    connection.request("GET", f"/{n * 100}")
    answer = connection.getresponse()
    assert answer.status == 200 and answer.read() == b"x" * (n * 100), n
sock = connection.sock
connection.request("POST", "/echo", body=iter([b"one ", b"two ", b"three" * 100000]), encode_chunked=True,
                   headers={"Transfer-Encoding": "chunked"})
assert connection.getresponse().read() == b"one two " + b"three" * 100000
assert connection.sock is sock
print("done")
"#;
    with(
        || available("python3").then_some(()),
        async |_, ()| {
            let served = Served::new(None).await;
            let mut python = Command::new("python3");
            python.args(["-c", CLIENT, &served.address.port().to_string()]);
            assert_eq!(output(python).await, "done\n");
            assert_eq!(served.site.requests.get(), 201);
        },
    );
}

async fn http1_sender(stream: impl Read + Write + Unpin + 'static) -> http1::SendRequest<Full<Bytes>> {
    let (sender, connection) = http1::handshake(stream).await.unwrap();
    drop(spawn(async move { connection.await.unwrap() }));
    sender
}

async fn http2_sender(stream: impl Read + Write + Unpin + 'static) -> http2::SendRequest<Full<Bytes>> {
    let (sender, connection) = http2::handshake(HyperExecutor, stream).await.unwrap();
    // It may end in the middle of what the server says last.
    drop(spawn(async move { drop(connection.await) }));
    sender
}

fn request(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("http://localhost{path}");
    Request::post(uri).header("host", "localhost").body(Full::new(body.into())).unwrap()
}

async fn body(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// The client and the server, by either version, over TCP, a unix socket and TLS: bodies of megabytes, and with HTTP/2 many
/// at once.
#[test]
fn client_and_server() {
    with(
        || Some(Identity::new()),
        async |_, identity| {
            let data: Bytes = (0..1_000_000_u32).map(|i| i as u8).collect();
            let plain = Served::new(None).await;
            let mut sender = http1_sender(TcpStream::connect(plain.address).await.unwrap()).await;
            for _ in 0..3 {
                let response = sender.send_request(request("/echo", data.clone())).await.unwrap();
                assert!(body(response).await == data);
                sender.ready().await.unwrap();
            }
            let tls = Served::new(Some(identity.acceptor(&["h2"]))).await;
            let stream = TcpStream::connect(tls.address).await.unwrap();
            let secure = identity.connector(&["h2"]).connect(stream, "localhost").await.unwrap();
            assert_eq!(secure.tls_info().unwrap().alpn_protocol.as_deref(), Some(&b"h2"[..]));
            let (ours, theirs) = UnixStream::pair().unwrap();
            let site = tls.site.clone();
            drop(spawn(async move { talk(&site, theirs).await }));
            for sender in [http2_sender(secure).await, http2_sender(ours).await] {
                let requests = (0..20).map(|n| {
                    let (mut sender, data) = (sender.clone(), data.slice(..n * 10_000));
                    async move {
                        let response = sender.send_request(request("/echo", data.clone())).await.unwrap();
                        assert_eq!(response.version(), Version::HTTP_2);
                        assert!(body(response).await == data);
                    }
                });
                futures::future::join_all(requests).await;
            }
            assert_eq!(tls.site.requests.get(), 40);
        },
    );
}

/// A server of Python's, which closes each connection.
#[test]
fn a_client_asks_python() {
    let needed = || {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("file"), "from Python").unwrap();
        if !available("python3") {
            return None;
        }
        let mut python = Command::new("python3");
        python.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder.path());
        let mut server = Running::start(python.stderr(Stdio::null()));
        let line = server.line();
        let port: u16 = line.split("port ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        Some((server, port, folder))
    };
    with(needed, async |_, (_server, port, _folder)| {
        for path in ["/file", "/nothing"] {
            let mut sender = http1_sender(TcpStream::connect(("127.0.0.1", *port)).await.unwrap()).await;
            let mut request = request(path, "");
            *request.method_mut() = hyper::Method::GET;
            *request.uri_mut() = path.parse().unwrap();
            let response = sender.send_request(request).await.unwrap();
            match path {
                "/file" => assert_eq!(body(response).await, "from Python"),
                _ => assert_eq!(response.status(), 404),
            }
        }
    });
}

/// Who begins a request and does not go on is let go when the time is over, and not before; by the loop's clock.
#[test]
fn a_slow_head_is_timed_out() {
    on_manual_clock(|el, clock| {
        let (mut ours, theirs) = pair(el);
        let served = el.create_task(async move {
            let service = service_fn(|request| answer(Rc::default(), request));
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(HyperTimer).header_read_timeout(Duration::from_secs(30));
            builder.serve_connection(theirs, service).await
        });
        let reading = el.create_task(async move {
            ours.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT").await.unwrap();
            let mut all = Vec::new();
            ours.read_to_end(&mut all).await.unwrap();
            String::from_utf8(all).unwrap()
        });
        settle(el);
        clock.advance(Duration::from_secs(29));
        settle(el);
        assert!(!served.is_done());
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert!(served.is_done());
        let error = complete(el, served).unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(complete(el, reading).unwrap().ends_with("hello\n"));
    });
}

/// With HTTP/2 a peer that is gone, and says so to nobody, is found out by pings; by the loop's clock.
#[test]
fn a_silent_peer_is_found_out() {
    on_manual_clock(|el, clock| {
        let (ours, mut theirs) = pair(el);
        let connection = el.create_task(async move {
            let mut builder = http2::Builder::new(HyperExecutor);
            builder.timer(HyperTimer).keep_alive_interval(Duration::from_secs(20)).keep_alive_while_idle(true);
            builder.keep_alive_timeout(Duration::from_secs(10));
            let (_sender, connection) = builder.handshake::<_, Full<Bytes>>(ours).await?;
            connection.await
        });
        // It shakes hands, and then reads without ever answering.
        let silent = el.create_task(async move {
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            theirs.write_all(&settings).await.unwrap();
            let mut all = Vec::new();
            let _ = theirs.read_to_end(&mut all).await;
            all
        });
        settle(el);
        clock.advance(Duration::from_secs(20));
        settle(el);
        assert!(!connection.is_done());
        clock.advance(Duration::from_secs(10));
        settle(el);
        assert!(connection.is_done());
        let error = complete(el, connection).unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        // Somewhere in there is a ping: eight bytes, without flags, of no stream.
        let said = complete(el, silent).unwrap();
        assert!(said.windows(9).any(|frame| frame == [0, 0, 8, 6, 0, 0, 0, 0, 0]));
    });
}

fn pair(el: &EventLoop) -> (UnixStream, UnixStream) {
    complete(el, async { UnixStream::pair().unwrap() })
}

/// A service that panics is reported and ends its connection, or its stream of one, and nobody else's.
#[test]
fn a_panic_stays_where_it_is() {
    on_each_selector(async |_| {
        let served = Served::new(None).await;
        let mut other = http1_sender(TcpStream::connect(served.address).await.unwrap()).await;
        assert_eq!(body(other.send_request(request("/", "")).await.unwrap()).await, "hello\n");

        let mut sender = http2_sender(TcpStream::connect(served.address).await.unwrap()).await;
        let mut sibling = sender.clone();
        assert!(sender.send_request(request("/panic", "")).await.is_err());
        assert_eq!(body(sibling.send_request(request("/", "")).await.unwrap()).await, "hello\n");
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("as asked for"), "{reports:?}");

        let mut ours = TcpStream::connect(served.address).await.unwrap();
        ours.write_all(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut all = Vec::new();
        let _ = ours.read_to_end(&mut all).await;
        assert!(all.is_empty());
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("as asked for"), "{reports:?}");

        other.ready().await.unwrap();
        assert_eq!(body(other.send_request(request("/", "")).await.unwrap()).await, "hello\n");
    });
}

/// A graceful stop waits for whoever is being answered, of either version, lets idle ones go, and takes no more requests.
#[test]
fn a_graceful_stop() {
    on_each_selector(async |_| {
        let graceful = GracefulShutdown::new();
        let gate = roundelay::get_running_loop().unwrap().create_future::<()>();
        let serve = |stream: UnixStream| {
            let (gate, watcher) = (gate.clone(), graceful.watcher());
            spawn(async move {
                let service = service_fn(move |_: Request<Incoming>| {
                    let gate = gate.clone();
                    async move {
                        gate.await.unwrap();
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"at last"))))
                    }
                });
                let builder = Builder::new(HyperExecutor);
                watcher.watch(builder.serve_connection(stream, service)).await
            })
        };
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let [(ours1, theirs1), (ours2, theirs2), (mut idle, theirs3)] = pairs.try_into().unwrap();
        let served = [serve(theirs1), serve(theirs2), serve(theirs3)];
        let (mut one, mut two) = (http1_sender(ours1).await, http2_sender(ours2).await);
        let first = spawn(one.send_request(request("/", "")));
        let second = spawn(two.send_request(request("/", "")));
        idle.write_all(b"GET").await.unwrap();
        // Until both requests wait at the gate.
        for _ in 0..100 {
            sleep(Duration::ZERO).await;
        }
        let stopping = spawn(graceful.shutdown());
        for _ in 0..100 {
            sleep(Duration::ZERO).await;
        }
        assert!(!stopping.is_done());
        gate.set_result(()).unwrap();
        assert_eq!(body(first.await.unwrap().unwrap()).await, "at last");
        assert_eq!(body(second.await.unwrap().unwrap()).await, "at last");
        assert!(two.send_request(request("/", "")).await.is_err());
        drop(idle);
        stopping.await.unwrap();
        for served in served {
            let _ = served.await.unwrap();
        }
    });
}

/// The server of the example, to curl and to the client of the other example, until a signal stops it.
#[test]
fn the_examples_talk() {
    let _alone = alone();
    let identity = Identity::new();
    let ca = identity.path("cert.pem");
    for is_tls in [false, true] {
        let mut command = Command::new(example("h2_server"));
        command.arg("127.0.0.1:0");
        if is_tls {
            command.args([&ca, &identity.path("key.pem")]);
        }
        let mut server = Running::start(&mut command);
        let port = server.address().port();
        let url = |path: &str| format!("{}://localhost:{port}{path}", if is_tls { "https" } else { "http" });
        let mut visitors = 0;
        let versions: &[&str] = if is_tls { &["HTTP/2.0"] } else { &["HTTP/1.1", "HTTP/2.0"] };
        for &version in versions {
            let mut client = Command::new(example("http_client"));
            client.args(["--cacert", &ca]).args((version == "HTTP/2.0" && !is_tls).then_some("--http2"));
            client.args([url("/"), url("/bytes/100000"), url("/nothing")]).stdin(Stdio::null());
            let fetched = client.output().unwrap();
            let said = String::from_utf8(fetched.stderr).unwrap();
            assert!(fetched.status.success(), "{said}");
            visitors += 1;
            let expected = format!("hello, visitor {visitors} by {version}\n{}not found\n", "x".repeat(100_000));
            assert!(fetched.stdout == expected.as_bytes(), "{said}");
            for (path, status) in [("/", "200 OK"), ("/bytes/100000", "200 OK"), ("/nothing", "404 Not Found")] {
                assert!(said.contains(&format!("{}: {version} {status}", url(path))), "{said}");
            }
        }
        if curl_is_there().is_some() {
            let how = if is_tls { "--http2" } else { "--http2-prior-knowledge" };
            let hello = curl(&[how, "--cacert", &ca, &url("/")]).output().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&hello.stdout),
                format!("hello, visitor {} by HTTP/2.0\n", visitors + 1)
            );
        }
        // Who is being answered when it is told to stop gets the answer.
        let el = EventLoop::new().unwrap();
        let stopped = async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let mut sender = match is_tls {
                false => http2_sender(stream).await,
                true => {
                    let connector = identity.connector(&["h2"]);
                    http2_sender(connector.connect(stream, "localhost").await.unwrap()).await
                }
            };
            let slow = spawn(sender.send_request(request("/slow/100", "")));
            // When this one is answered, the other one has been read.
            body(sender.send_request(request("/", "")).await.unwrap()).await;
            kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
            assert_eq!(body(slow.await.unwrap().unwrap()).await, "at last\n");
        };
        complete(&el, stopped);
        el.close();
        assert_eq!(server.line(), "stopped");
        assert!(server.child.wait().unwrap().success());
    }
}

/// nghttp2's benchmark: two thousand requests by ten connections, twenty at a time, of which none fails.
#[test]
fn h2load_is_answered() {
    let needed = || {
        let found = find("h2load", &[]);
        if found.is_none() {
            eprintln!("skipped: h2load is not installed");
        }
        found
    };
    with(needed, async |_, h2load| {
        let served = Served::new(None).await;
        let mut command = Command::new(h2load);
        command.args(["-n", "2000", "-c", "10", "-m", "20", &served.url("http", "/100")]);
        let shown = output(command).await;
        assert!(shown.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{shown}");
        assert_eq!(served.site.requests.get(), 2000);
    });
}
