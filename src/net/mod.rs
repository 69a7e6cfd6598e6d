//! Connections and servers.

mod connect;
mod endpoint;
mod listener;
mod sendfile;
mod serve;
mod server;

pub use connect::{ConnectAcceptedSocket, Connecting, CreateConnection};
pub(crate) use connect::{ConnectOptions, connected_socket, set_nodelay};
pub use endpoint::{Endpoint, ServerEndpoint};
pub use serve::{CreateServer, Starting};
pub(crate) use serve::{ServerOptions, first_listener, server_settings};
pub use server::{CloseOnDrop, ServeForever, Server};
