//! Operations on sockets that belong to the application.

pub(crate) mod file;
pub(crate) mod sendfile;
