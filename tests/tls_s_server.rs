//! OpenSSL's server, `s_server`, and our client; and the keys that OpenSSL makes.

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

use std::io;
use std::path::PathBuf;
use std::process::Command;

use roundelay::{TlsAcceptor, TlsConnector, TlsIdentity, TlsVersion, open_connection};

use common::{alone, run_until};
use held::{Held, files};
use openssl::{VERSIONS, connector, digits, gone, heard, s_server, s_server_with, serve};
use peers::{end, has, on_each_selector, run_program};
use tcp::{Recorder, complete};

/// TL-01, TL-33: a server that is left, one that ends properly, one that hangs up, and one that is killed, over either
/// version.
#[test]
fn s_server_and_both_ends() {
    if !has("openssl") || !has("stdbuf") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        for (version, option, _) in VERSIONS {
            // It sends each line back in reverse.
            let server = s_server(el, &files, &[option, "-rev"]);
            let connector = connector(&files, version);
            let (transport, recorder) = server.connect(el, &connector);
            assert_eq!(transport.extra_info().tls.unwrap().version, version);
            transport.write(b"hello\n");
            heard(el, &recorder, "data olleh\n");
            transport.close();
            gone(el, &transport);
            assert_eq!(recorder.take(), ["eof", "lost"]);

            let (transport, recorder) = server.connect(el, &connector);
            transport.write(b"CLOSE\n");
            gone(el, &transport);
            assert_eq!(recorder.take(), ["made", "eof", "lost"]);
            server.end(el);

            let server = s_server(el, &files, &[option]);
            let (transport, recorder) = server.connect(el, &connector);
            let server = server.aside(el, |talk| talk.say("hello\n"));
            heard(el, &recorder, "data hello\n");
            let server = server.aside(el, |talk| talk.say("q\n"));
            gone(el, &transport);
            assert_eq!(recorder.take(), ["lost UnexpectedEof"]);

            let (transport, recorder) = server.connect(el, &connector);
            // It has read what it was sent, or else the system would send a reset.
            let server = server.aside(el, |talk| talk.say("hello\n"));
            heard(el, &recorder, "data hello\n");
            server.end(el);
            gone(el, &transport);
            assert_eq!(recorder.take(), ["lost UnexpectedEof"]);
        }
    });
}

/// TL-02, TL-03, TL-10: what OpenSSL's server does not like is told to who connects: another version, no certificate.
#[test]
fn s_server_refuses() {
    if !has("openssl") || !has("stdbuf") {
        return;
    }
    let files = files();
    let ca = files.ca.to_str().unwrap();
    on_each_selector(|el| {
        let server = s_server(el, &files, &["-tls1_2", "-rev", "-Verify", "1", "-verify_return_error", "-CAfile", ca]);
        let refused = |connector: TlsConnector| {
            let recorder = Recorder::new();
            let given = recorder.clone();
            let connecting = el.create_connection(move || given, ("127.0.0.1", server.port)).tls(connector);
            let error = complete(el, connecting.server_hostname("localhost")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(recorder.take(), [""; 0]);
            error.to_string()
        };
        let text = refused(connector(&files, TlsVersion::Tls13));
        assert!(text.contains("ProtocolVersion"), "{text}");
        let text = refused(connector(&files, TlsVersion::Tls12));
        assert!(text.contains("HandshakeFailure"), "{text}");

        let builder = TlsConnector::builder().roots_from_pem_file(&files.ca).identity(files.client());
        let (transport, recorder) = server.connect(el, &builder.build().unwrap());
        transport.write(b"hello\n");
        heard(el, &recorder, "data olleh\n");
        transport.close();
        gone(el, &transport);
        server.end(el);
    });
}

/// TL-20: a server that wants to negotiate anew is told that this is not done, which OpenSSL takes for the end.
#[test]
fn s_server_renegotiates() {
    if !has("openssl") || !has("stdbuf") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let server = s_server(el, &files, &["-tls1_2"]);
        let (transport, recorder) = server.connect(el, &connector(&files, TlsVersion::Tls12));
        let server = server.aside(el, |talk| talk.say("hello\n"));
        heard(el, &recorder, "data hello\n");
        let server = server.aside(el, |talk| talk.say("r\n"));
        // It finds out when it reads the next time.
        transport.write(b"hello\n");
        gone(el, &transport);
        let heard = recorder.take();
        assert!(heard.last().unwrap().starts_with("lost"), "{heard:?}");
        server.end(el);
    });
}

/// TL-01: OpenSSL's server changes its keys, and asks for others of ours.
#[test]
fn s_server_changes_its_keys() {
    if !has("openssl") || !has("stdbuf") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let mut server = s_server(el, &files, &["-tls1_3"]);
        let (transport, recorder) = server.connect(el, &connector(&files, TlsVersion::Tls13));
        recorder.take();
        for (command, line) in [("k\n", "one\n"), ("K\n", "two\n"), ("K\n", "three\n")] {
            server = server.aside(el, move |talk| {
                talk.say(command);
                talk.hear("SSL_do_handshake -> 1\n");
                talk.say(line);
            });
            run_until(el, || recorder.0.len() == 1);
            assert_eq!(recorder.take(), [format!("data {line}")]);
            transport.write(line.as_bytes());
            server = server.aside(el, move |talk| drop(talk.hear(line)));
        }
        transport.close();
        gone(el, &transport);
        server.end(el);
    });
}

/// TL-01: the page that OpenSSL's server makes, of which the connection's end is the end; the protocols on which both
/// agree; sessions that are resumed.
#[test]
fn s_server_and_streams() {
    if !has("openssl") || !has("stdbuf") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        for (version, option, name) in VERSIONS {
            let server = s_server(el, &files, &[option, "-www", "-alpn", "h2,http/1.1"]);
            let builder = TlsConnector::builder().roots_from_pem_file(&files.ca).require_close_notify(true);
            let connector = builder.alpn(["http/1.1", "h2"]).max_version(version).build().unwrap();
            for resumed in [false, true] {
                let page = complete(el, async {
                    let connecting = open_connection(("127.0.0.1", server.port)).tls(connector.clone());
                    let (mut reader, mut writer) = connecting.server_hostname("localhost").await.unwrap();
                    let tls = writer.extra_info().tls.unwrap();
                    assert_eq!(tls.alpn_protocol.as_deref(), Some(&b"h2"[..]));
                    assert_eq!((tls.version, tls.is_resumed), (version, resumed));
                    writer.write(b"GET / HTTP/1.0\r\n\r\n");
                    reader.read_to_end().await.unwrap()
                });
                let page = String::from_utf8(page).unwrap();
                let said = if resumed { "Reused" } else { "New" };
                assert!(page.starts_with("HTTP/1.0 200 ok") && page.contains(&format!("{said}, {name}")), "{page}");
            }
            server.end(el);
        }
    });
}

/// Certificates and keys that OpenSSL makes: RSA, in the new form and in the old one, and an elliptic curve. Their authority
/// takes the place of the one in the files.
fn make_keys(files: &Held) -> Vec<(PathBuf, PathBuf)> {
    let _alone = alone();
    let folder = files.folder.path();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    files.write(
        "request",
        "[req]\nprompt=no\ndistinguished_name=name\n[name]\nCN=made by openssl\n[server]\nbasicConstraints=CA:false\n\
         subjectAltName=DNS:localhost,IP:127.0.0.1\n[authority]\nbasicConstraints=critical,CA:true\n",
    );
    let authority = ["req", "-x509", "-config", "request", "-extensions", "authority", "-days", "2"];
    openssl(&[&authority[..], &["-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem"]].concat());
    let sign = |key: &str, cert: &str| {
        openssl(&["req", "-new", "-config", "request", "-key", key, "-out", "signing.request"]);
        let sign = ["x509", "-req", "-in", "signing.request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(&[&sign[..], &["-days", "2", "-extfile", "request", "-extensions", "server", "-out", cert]].concat());
    };
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa8.key"]);
    openssl(&["rsa", "-in", "rsa8.key", "-traditional", "-out", "rsa1.key"]);
    openssl(&["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "ec.key"]);
    sign("rsa8.key", "rsa.pem");
    sign("ec.key", "ec.pem");
    for (key, first) in [("rsa8.key", "BEGIN PRIVATE"), ("rsa1.key", "BEGIN RSA"), ("ec.key", "BEGIN EC")] {
        assert!(std::fs::read_to_string(folder.join(key)).unwrap().contains(first), "{key}");
    }
    let pairs = [("rsa.pem", "rsa8.key"), ("rsa.pem", "rsa1.key"), ("ec.pem", "ec.key")];
    pairs.map(|(cert, key)| (folder.join(cert), folder.join(key))).to_vec()
}

/// TL-01: certificates and keys that OpenSSL has made, of RSA in PKCS#8 and in PKCS#1 and of an elliptic curve in SEC1, are
/// used by our server and checked by our client.
#[test]
fn openssl_makes_keys() {
    if !has("openssl") || !has("stdbuf") {
        return;
    }
    let files = files();
    let pairs = make_keys(&files);
    on_each_selector(|el| {
        for (cert, key) in &pairs {
            let identity = TlsIdentity::from_pem_files(cert, key).unwrap();
            let served = serve(el, TlsAcceptor::builder().identity(identity).build().unwrap());
            for (version, option, _) in VERSIONS {
                let client = served.s_client(&files, &[option, "-quiet"]);
                assert!(run_program(el, client, b"give\n".to_vec()) == digits());
                assert_eq!(served.heard(el), ["made", "eof", "lost"]);

                let server = s_server_with(el, cert, key, &[option, "-rev"]);
                let (transport, recorder) = server.connect(el, &connector(&files, version));
                transport.write(b"hello\n");
                heard(el, &recorder, "data olleh\n");
                transport.close();
                gone(el, &transport);
                server.end(el);
            }
            end(el, &served.server);
        }
    });
}
