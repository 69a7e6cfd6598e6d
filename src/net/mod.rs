//! Connections, servers, datagram endpoints and pipes.

mod connect;
mod datagram;
mod endpoint;
mod happy_eyeballs;
mod listener;
mod options;
mod pipe;
mod security;
mod sendfile;
mod serve;
mod server;
mod unix;

pub use connect::{ConnectAcceptedSocket, Connecting, CreateConnection};
pub(crate) use connect::{ConnectOptions, connect, connect_settings, connected_socket, introduce, set_nodelay};
pub use datagram::{CreateDatagramEndpoint, DatagramAddr, OpeningDatagrams};
pub use endpoint::{Endpoint, ServerEndpoint};
pub(crate) use endpoint::{EndpointKind, malformed};
pub(crate) use options::{Domain, SocketOptions, bind_device_setting, buffer_settings, tcp_settings, tos_setting};
pub use options::{KeepAlive, SocketOptionError};
pub use pipe::ConnectPipe;
pub(crate) use pipe::{Way, take_pipe};
pub use serve::{CreateServer, Starting};
pub(crate) use serve::{ServerOptions, first_listener, listener_settings, server_settings, serving_settings};
pub use server::{CloseOnDrop, ServeForever, Server};
#[cfg(feature = "inspector")]
pub(crate) use unix::bind_anew;
pub use unix::{CreateUnixConnection, CreateUnixServer, UnixAddressError, UnixEndpoint, UnixServerEndpoint};
pub(crate) use unix::{
    UnixConnectOptions, UnixServerOptions, connect_unix, connected_unix_socket, plain_listener, unix_server_settings,
};
