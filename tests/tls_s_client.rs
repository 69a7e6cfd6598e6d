//! OpenSSL's client, `s_client`, and our server.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/held.rs"]
mod held;
#[path = "common/openssl.rs"]
mod openssl;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/talk.rs"]
mod talk;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/witness.rs"]
mod witness;

use roundelay::{ClientAuth, TlsAcceptor};

use certificates::acceptor;
use common::run_until;
use held::{files, identity};
use openssl::{VERSIONS, digits, serve};
use peers::{aside, end, has, on_each_selector, run_program};
use talk::{Talk, complaining_aloud};

/// TL-01, TL-33: a client that ends first, and one that is left by the server, over either version.
#[test]
fn s_client_and_both_ends() {
    if !has("openssl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let served = serve(el, acceptor());
        for (version, option, _) in VERSIONS {
            let client = served.s_client(&files, &[option]);
            let (status, ..) = aside(el, || {
                let mut talk = Talk::start(client);
                talk.say("hello\n");
                talk.hear("hello\n");
                talk.finish()
            });
            assert!(status.success());
            assert_eq!(served.heard(el), ["made", "eof", "lost"]);

            let client = served.s_client(&files, &[option]);
            let (status, rest, _) = aside(el, || {
                let mut talk = Talk::start(client);
                talk.say("hello\n");
                talk.hear("hello\n");
                talk.say("bye\n");
                talk.hear("closed\n");
                talk.finish()
            });
            assert!(status.success(), "{}", String::from_utf8_lossy(&rest));
            assert_eq!(served.heard(el), ["made", "eof", "lost"]);
            let agreed = served.agreed.take();
            assert!(agreed.iter().all(|tls| tls.version == version && tls.server_name.as_deref() == Some("localhost")));
        }
        end(el, &served.server);
    });
}

/// TL-01: 5 MB that were written before the connection was closed arrive whole in OpenSSL's hands.
#[test]
fn s_client_is_given_much() {
    if !has("openssl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let served = serve(el, acceptor());
        for (_, option, _) in VERSIONS {
            let client = served.s_client(&files, &[option, "-quiet"]);
            assert!(run_program(el, client, b"give\n".to_vec()) == digits());
            assert_eq!(served.heard(el), ["made", "eof", "lost"]);
        }
        end(el, &served.server);
    });
}

/// TL-33: a client that is killed says no more: that is an end of file, or an error where a `close_notify` is required.
#[test]
fn s_client_is_killed() {
    if !has("openssl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        for (strict, end_of_it) in
            [(false, ["made", "eof", "lost"].as_slice()), (true, &["made", "lost UnexpectedEof"])]
        {
            let acceptor = TlsAcceptor::builder().identity(identity()).require_close_notify(strict).build().unwrap();
            let served = serve(el, acceptor);
            for (_, option, _) in VERSIONS {
                let client = served.s_client(&files, &[option]);
                let (status, ..) = aside(el, || {
                    let mut talk = Talk::start(client);
                    talk.say("hello\n");
                    talk.hear("hello\n");
                    talk.kill();
                    talk.finish()
                });
                assert!(!status.success());
                assert_eq!(served.heard(el), end_of_it);
            }
            end(el, &served.server);
        }
    });
}

/// TL-02, TL-03: who shows no certificate where one is required is not let in; who does is known by it.
#[test]
fn s_client_has_a_certificate() {
    if !has("openssl") {
        return;
    }
    let files = files();
    let [cert, key] = ["client.pem", "client.key"].map(|name| files.path(name));
    let client = files.client();
    let [cert, key] = [cert.to_str().unwrap(), key.to_str().unwrap()];
    on_each_selector(|el| {
        let acceptor = TlsAcceptor::builder()
            .identity(identity())
            .client_auth(ClientAuth::Required)
            .client_roots_from_pem_file(&files.ca)
            .build()
            .unwrap();
        let served = serve(el, acceptor);
        for (_, option, _) in VERSIONS {
            let anonymous = served.s_client(&files, &[option, "-quiet"]);
            let (status, _, errors) = aside(el, || Talk::start(anonymous).finish());
            assert!(!status.success() && errors.contains("alert"), "{errors}");
            assert_eq!(served.heard(el), [""; 0]);

            let known = served.s_client(&files, &[option, "-cert", cert, "-key", key]);
            let (status, ..) = aside(el, || {
                let mut talk = Talk::start(known);
                talk.say("hello\n");
                talk.hear("hello\n");
                talk.finish()
            });
            assert!(status.success());
            assert_eq!(served.heard(el), ["made", "eof", "lost"]);
            // It shows the authority's, too.
            assert_eq!(&*served.agreed.take()[0].peer_certificates[0], client.chain().next().unwrap());
        }
        end(el, &served.server);
    });
}

/// TL-20: a client that wants to negotiate anew is told that this is not done. OpenSSL takes that for the end; others do not
/// notice anything.
#[test]
fn s_client_renegotiates() {
    if !has("openssl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let served = serve(el, acceptor());
        let [first, other] = [(); 2].map(|()| served.s_client(&files, &["-tls1_2"]));
        let (errors, status) = aside(el, || {
            let mut other = Talk::start(other);
            other.say("hello\n");
            other.hear("\nhello\n");

            let mut talk = Talk::start(first);
            talk.say("hello\n");
            talk.hear("hello\n");
            talk.say("R\n");
            let (_, _, errors) = talk.finish();

            other.say("still there\n");
            other.hear("still there\n");
            (errors, other.finish().0)
        });
        assert!(errors.contains("no renegotiation"), "{errors}");
        assert!(status.success());
        let heard = served.heard(el);
        assert!(heard.contains(&"lost InvalidData".to_owned()) && heard.contains(&"eof".to_owned()), "{heard:?}");
        end(el, &served.server);
    });
}

/// TL-01: keys are changed in the middle of a connection, by the peer alone and by both sides.
#[test]
fn s_client_changes_its_keys() {
    if !has("openssl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let served = serve(el, acceptor());
        let client = complaining_aloud(&served.s_client(&files, &["-tls1_3"]));
        let (status, ..) = aside(el, || {
            let mut talk = Talk::start(client);
            talk.say("zero\n");
            talk.hear("zero\n");
            for (command, line) in [("k\n", "one\n"), ("K\n", "two\n"), ("K\n", "three\n")] {
                talk.say(command);
                talk.hear("KEYUPDATE\n");
                talk.say(line);
                talk.hear(line);
            }
            talk.finish()
        });
        assert!(status.success());
        assert_eq!(served.heard(el), ["made", "eof", "lost"]);
        end(el, &served.server);
    });
}

/// TL-01: a session is resumed by a ticket, over either version, unless the server gives none.
#[test]
fn s_client_resumes() {
    if !has("openssl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        for resumed in [true, false] {
            let acceptor = TlsAcceptor::builder().identity(identity()).resumption(resumed).build().unwrap();
            let served = serve(el, acceptor);
            for (_, option, name) in VERSIONS {
                let session = files.path("session");
                let file = session.to_str().unwrap();
                let mut expected = "New";
                for what in ["-sess_out", "-sess_in"] {
                    if what == "-sess_in" && !session.exists() {
                        assert!(!resumed, "the server gave no ticket for {name}");
                        break;
                    }
                    let client = served.s_client(&files, &[option, what, file]);
                    let (status, told) = aside(el, || {
                        let mut talk = Talk::start(client);
                        talk.say("hello\n");
                        let told = talk.hear("hello\n");
                        (talk.finish().0, told)
                    });
                    assert!(status.success());
                    assert!(told.contains(&format!("{expected}, {name}")), "{told}");
                    expected = if resumed { "Reused" } else { "New" };
                }
                let agreed: Vec<bool> = served.agreed.take().iter().map(|tls| tls.is_resumed).collect();
                assert!(agreed.iter().skip(1).all(|&was| was == resumed) && !agreed[0], "{agreed:?}");
                let _ = std::fs::remove_file(session);
            }
            run_until(el, || served.server.connections() == 0);
            end(el, &served.server);
        }
    });
}
