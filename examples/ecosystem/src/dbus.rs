//! A message bus for the moment.

use std::fs;
use std::io;
use std::process::Command;

use crate::service::{Service, find, folder};

/// Anybody who may reach the socket may do anything.
const CONFIGURATION: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// A D-Bus message bus on a unix socket in a temporary folder, which ends with this process.
#[derive(Debug)]
pub struct DBus {
    service: Service,
}

impl DBus {
    /// Starts one; `None`, after saying so, where it is not installed.
    ///
    /// # Errors
    ///
    /// The operating system's; what the server says if it does not start.
    pub fn start() -> io::Result<Option<Self>> {
        let Some(daemon) = find("dbus-daemon", &[]) else {
            eprintln!("skipped: dbus-daemon is not installed");
            return Ok(None);
        };
        let folder = folder("dbus-", None)?;
        let configuration = folder.join("configuration");
        fs::write(&configuration, CONFIGURATION.replace("SOCKET", &folder.join("socket").to_string_lossy()))?;
        let mut command = Command::new(daemon);
        command.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"]);
        command.arg(format!("--config-file={}", configuration.display()));
        let service = Service::start(&command, folder, "TERM", "unix:path=", None)?;
        Ok(Some(Self { service }))
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.service.folder().join("socket").display())
    }
}
