//! Child processes: protocols and their transports.

mod common;

#[path = "common/processes.rs"]
mod processes;

use common::{complete, run_until};
use processes::Told;

on_every_loop! {
    /// P28: of a process that writes to both of its outputs and returns 3 everything is told, the first thing first and the
    /// last thing last.
    fn a_process_is_told_of_from_beginning_to_end(el) {
        let told = Told::new();
        let command = "echo out; echo err >&2; exit 3";
        let (process, _) = complete(el, el.subprocess_shell(told.protocol(), command)).unwrap();
        assert_eq!(told.first(), "made");
        run_until(el, || told.is_over());
        assert_eq!(process.returncode(), Some(3));
        let events = told.take();
        assert_eq!(events.first().unwrap(), "made");
        assert_eq!(events.last().unwrap(), "lost None");
        let mut between: Vec<_> = events[1..events.len() - 1].to_vec();
        between.sort();
        assert_eq!(
            between,
            ["data 1 \"out\\n\"", "data 2 \"err\\n\"", "exited 3", "pipe lost 0 None", "pipe lost 1 None", "pipe lost 2 None"]
        );
    }

    /// SP-16: input goes in, output and errors come out.
    fn communicate(el) {
        let (out, err) = complete(el, async {
            let mut process = roundelay::create_subprocess_exec("cat", [""; 0])
                .stdin(roundelay::Stdio::piped())
                .stdout(roundelay::Stdio::piped())
                .await
                .unwrap();
            let output = process.communicate(Some(b"hello")).await.unwrap();
            assert_eq!(process.returncode(), Some(0));
            output
        });
        assert_eq!((out, err), (Some(b"hello".to_vec()), None));
    }
}
