//! A Python that has what is needed.

use std::process::{Command, Stdio};

/// A Python that can import a module; `None`, after saying so, where there is none. There may be several, and the one that
/// the system's packages are for is not always the first on the path.
pub fn python_with(module: &str) -> Option<Command> {
    for program in ["python3", "/usr/bin/python3", "/usr/local/bin/python3"] {
        let mut import = Command::new(program);
        import.args(["-c", &format!("import {module}")]);
        let imported = import.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if imported.is_ok_and(|status| status.success()) {
            return Some(Command::new(program));
        }
    }
    eprintln!("skipped: there is no Python with the module {module}");
    None
}
