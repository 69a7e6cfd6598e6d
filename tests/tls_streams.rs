//! Streams over TLS, and streams that change to TLS.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncReadExt};
use roundelay::{
    EventLoop, InvalidState, LoopFuture, Server, StreamReader, StreamWriter, Transport, open_connection, spawn,
    start_server,
};

use certificates::{acceptor, connector};
use common::{PATIENCE, complete, run_until};
use tcp::LOOPBACK;

/// The two halves of a stream.
type Halves = (StreamReader, StreamWriter);

/// A stream's two ends, and the server that one of them is of.
async fn pair() -> (Halves, Halves, Server) {
    let accepted: LoopFuture<Halves> = roundelay::get_running_loop().unwrap().create_future();
    let slot = accepted.clone();
    let server = start_server(
        async move |reader, writer| {
            slot.set_result((reader, writer)).unwrap();
        },
        LOOPBACK,
    )
    .await
    .unwrap();
    let client = open_connection(server.local_addrs()[0]).await.unwrap();
    (client, accepted.take().await.unwrap(), server)
}

/// Both change to TLS at once.
async fn change(client: &mut StreamWriter, server: &mut StreamWriter) {
    let server = spawn(server.start_tls(acceptor()).into_future());
    client.start_tls(connector()).server_hostname("localhost").await.unwrap();
    server.await.unwrap().unwrap();
}

/// Both close, and the server ends.
async fn end(mut client: StreamWriter, mut server: StreamWriter, listening: Server) {
    client.close();
    server.close();
    client.wait_closed().await.unwrap();
    server.wait_closed().await.unwrap();
    listening.close();
    listening.wait_closed().await;
}

on_every_loop! {
    /// SR-22: both sides of a stream change to TLS, after words in clear; the same halves go on.
    fn a_stream_changes_to_tls(el) {
        complete(el, async {
            let ((mut reader, mut writer), (mut server_reader, mut server_writer), server) = pair().await;
            writer.write(b"in clear\n");
            assert_eq!(server_reader.readline().await.unwrap(), b"in clear\n");
            let before = writer.transport();
            change(&mut writer, &mut server_writer).await;

            assert_ne!(writer.transport(), before);
            let tls = writer.extra_info().tls.unwrap();
            assert_eq!(tls.server_name.as_deref(), Some("localhost"));
            assert_eq!(server_writer.extra_info().tls.unwrap().server_name.as_deref(), Some("localhost"));
            writer.write(b"hidden\n");
            assert_eq!(server_reader.readline().await.unwrap(), b"hidden\n");
            server_writer.write(b"hidden, too\n");
            server_writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"hidden, too\n");
            end(writer, server_writer, server).await;
        });
    }
}
