//! What the examples and tests have in common: servers of others, started for the moment.

mod dbus;
mod postgres;
mod python;
mod redis;
mod service;

pub use dbus::DBus;
pub use postgres::Postgres;
pub use python::python_with;
pub use redis::Redis;
pub use service::{Service, User, find};
