//! Connections and servers.

mod connect;
mod endpoint;
mod listener;
mod serve;
mod server;

pub(crate) use connect::{ConnectOptions, connected_socket};
pub use connect::{Connecting, CreateConnection};
pub use endpoint::{Endpoint, ServerEndpoint};
pub use serve::{CreateServer, Starting};
pub(crate) use serve::{ServerOptions, bind_listeners, server_settings};
pub use server::{CloseOnDrop, ServeForever, Server};
