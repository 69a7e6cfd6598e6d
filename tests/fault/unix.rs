//! Connections and servers over unix sockets.

use std::os::unix::net::UnixListener as Plain;
use std::path::PathBuf;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{UnixListener, UnixStream};
use tempfile::TempDir;

use crate::connections::{BYTES, Client, Echo, shut_down};
use crate::sweep::{check_bytes, pattern, sweep};

/// A path at which nobody listens any more, and its folder.
fn stale() -> (PathBuf, TempDir) {
    let folder = tempfile::Builder::new().prefix("rdl").tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(Plain::bind(&path).unwrap());
    (path, folder)
}

#[test]
fn echo_over_a_replaced_socket() {
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let (path, _folder) = stale();
        let server_witness = witness.clone();
        let creating = el.create_unix_server(move || server_witness.protocol("server", Echo), &path);
        let Some(server) = witness.check("create_unix_server", stage.complete(creating.into_future())) else {
            return;
        };
        let client = Client::new();
        let watched = witness.protocol("client", client.clone());
        let connecting = el.create_unix_connection(move || watched, &path);
        let connected = witness.check("create_unix_connection", stage.complete(connecting.into_future()));
        if let Some((transport, _)) = connected {
            // That the peer is unknown is no error, where the system does not tell.
            drop(transport.extra_info());
            stage.run_until(|| client.done.get());
            assert!(transport.is_closing());
            check_bytes(witness, &client.bytes, &client.arrived.borrow());
        }
        shut_down(stage, server);
    });
}

/// A socket that is open is never taken for one that is closed, whatever fails while that is found out.
#[test]
fn a_live_socket_is_left() {
    sweep(|stage| {
        let (path, _folder) = stale();
        std::fs::remove_file(&path).unwrap();
        let listener = Plain::bind(&path).unwrap();
        let creating = stage.el.create_unix_server(|| Echo, &path);
        let refused = stage.complete(creating.into_future());
        assert!(refused.is_err());
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        drop(listener);
    });
}

#[test]
fn streams_over_a_path() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        let (path, _folder) = stale();
        stage.complete(async move {
            let handler = async |mut reader: roundelay::StreamReader, mut writer: roundelay::StreamWriter| {
                let data = reader.read_to_end().await?;
                writer.write(&data);
                writer.close();
                writer.wait_closed().await
            };
            let server = roundelay::start_unix_server(handler, &path).await;
            let Some(server) = witness.check("start_unix_server", server) else { return };
            let opened = roundelay::open_unix_connection(&path).await;
            if let Some((mut reader, mut writer)) = witness.check("open_unix_connection", opened) {
                let bytes = pattern(BYTES);
                writer.write(&bytes);
                writer.write_eof();
                let arrived = reader.read_to_end().await;
                writer.close();
                witness.check("wait_closed", writer.wait_closed().await);
                if let Some(arrived) = witness.check("read_to_end", arrived) {
                    if arrived.len() < bytes.len() {
                        // The server's handler has been told, and the exception handler need not be: the peer is gone.
                        witness.error("the end", &std::io::ErrorKind::UnexpectedEof.into());
                    }
                    check_bytes(&witness, &bytes, &arrived);
                }
            }
            server.shutdown(Duration::from_secs(1)).await;
        });
    });
}

#[test]
fn plain_unix_streams() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        let (path, _folder) = stale();
        std::fs::remove_file(&path).unwrap();
        stage.complete(async move {
            let Some(listener) = witness.check("bind", UnixListener::bind(&path)) else { return };
            let Some(mut client) = witness.check("connect", UnixStream::connect(&path).await) else { return };
            let Some((mut server, _)) = witness.check("accept", listener.accept().await) else { return };
            witness.check("peer_cred", server.peer_cred());
            let bytes = pattern(BYTES);
            let (sent, copy) = (witness.clone(), bytes.clone());
            let writing = roundelay::spawn(async move {
                let written = client.write_all(&copy).await;
                sent.check("write_all", written);
                // Dropped, it is closed in any case.
                sent.check("close", client.close().await);
            });
            let mut arrived = Vec::new();
            // `read_to_end` keeps what came before an error.
            witness.check("read_to_end", server.read_to_end(&mut arrived).await);
            drop(server);
            writing.await.unwrap();
            check_bytes(&witness, &bytes, &arrived);
            witness.check("pair", UnixStream::pair());
        });
    });
}
