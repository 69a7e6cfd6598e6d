//! Connections, servers, datagram endpoints and pipes.

mod connect;
mod datagram;
mod endpoint;
mod happy_eyeballs;
mod listener;
mod pipe;
mod security;
mod sendfile;
mod serve;
mod server;
mod unix;

pub use connect::{ConnectAcceptedSocket, Connecting, CreateConnection};
pub(crate) use connect::{ConnectOptions, connect_settings, connected_socket, introduce, set_nodelay};
pub use datagram::{CreateDatagramEndpoint, DatagramAddr, OpeningDatagrams};
pub(crate) use endpoint::EndpointKind;
pub use endpoint::{Endpoint, ServerEndpoint};
pub use pipe::ConnectPipe;
pub(crate) use pipe::{Way, take_pipe};
pub(crate) use security::Security;
pub use serve::{CreateServer, Starting};
pub(crate) use serve::{ServerOptions, first_listener, server_settings, serving_settings};
pub use server::{CloseOnDrop, ServeForever, Server};
pub use unix::{CreateUnixConnection, CreateUnixServer, UnixAddressError, UnixEndpoint, UnixServerEndpoint};
pub(crate) use unix::{UnixServerOptions, connected_unix_socket, plain_listener, unix_server_settings};
