//! Unix sockets: connections and servers.

mod connect;
mod endpoint;
mod serve;

pub use connect::CreateUnixConnection;
pub(crate) use connect::connected_unix_socket;
pub(crate) use connect::{UnixConnectOptions, connect_unix};
pub use endpoint::{UnixAddressError, UnixEndpoint, UnixServerEndpoint};
pub use serve::CreateUnixServer;
pub(crate) use serve::{UnixServerOptions, bind_anew, plain_listener, unix_server_settings};
