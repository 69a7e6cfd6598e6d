//! Connections, servers and pipes.

mod connect;
mod endpoint;
mod listener;
mod pipe;
mod serve;
mod server;

pub use connect::{ConnectAcceptedSocket, Connecting, CreateConnection};
pub(crate) use connect::{ConnectOptions, connected_socket, introduce, set_nodelay};
pub use endpoint::{Endpoint, ServerEndpoint};
pub use pipe::ConnectPipe;
pub(crate) use pipe::{Way, open_pipe, take_pipe};
pub use serve::{CreateServer, Starting};
pub(crate) use serve::{ServerOptions, first_listener, server_settings};
pub use server::{CloseOnDrop, ServeForever, Server};
