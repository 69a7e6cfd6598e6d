//! Real programs as children: filters, pipelines, an interpreter.

mod common;

#[path = "common/children.rs"]
mod children;
#[path = "common/program.rs"]
mod program;

use std::os::fd::OwnedFd;

use common::{complete, run_until};
use roundelay::{EventLoop, Process, Stdio, create_subprocess_exec};
use rustix::pipe::{PipeFlags, pipe_with};

use children::{exec, has_children, no_child_is_left, shell};
use program::available;

/// A pipe between two children: its writing end and its reading end.
fn between() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (writer, reader)
}

fn text(data: Option<Vec<u8>>) -> String {
    String::from_utf8(data.unwrap()).unwrap()
}

/// Lines that do not compress to nothing.
fn lines(count: u32) -> String {
    (0..count).map(|i| format!("{}\n", i.wrapping_mul(2_654_435_761))).collect()
}

/// What a filter makes of an input, and what it returns.
fn filter(el: &EventLoop, program: &'static str, args: &'static [&'static str], input: &str) -> (String, Option<i32>) {
    complete(el, async {
        let mut process = exec(program, args).await.unwrap();
        let (out, err) = process.communicate(Some(input.as_bytes())).await.unwrap();
        assert_eq!(text(err), "");
        (text(out), process.returncode())
    })
}

on_every_loop! {
    /// SP-16: filters, of which some write at the end, some at once, and some stop reading early.
    fn filters(el) {
        let input = lines(20_000);
        let mut sorted: Vec<&str> = input.lines().collect();
        sorted.sort_unstable();
        let sorted = sorted.join("\n") + "\n";
        assert_eq!(filter(el, "env", &["LC_ALL=C", "sort"], &input), (sorted, Some(0)));
        let first = input.lines().next().unwrap().to_owned() + "\n";
        assert_eq!(filter(el, "head", &["-n", "1"], &input), (first, Some(0)));
        assert_eq!(filter(el, "wc", &["-l"], &input).0.trim(), "20000");
        assert_eq!(filter(el, "tr", &["0-9", "a-j"], "2026\n"), ("cacg\n".to_owned(), Some(0)));
        assert_eq!(filter(el, "grep", &["nothing like it"], &input), (String::new(), Some(1)));
        no_child_is_left();
    }

    /// SP-01: `gzip` and `gunzip`, joined by a pipe that this process only makes: what goes in comes out.
    fn a_pipeline(el) {
        let input = lines(50_000);
        complete(el, async {
            let (writer, reader) = between();
            let mut gzip =
                create_subprocess_exec("gzip", ["-c"]).stdin(Stdio::piped()).stdout(Stdio::fd(writer)).await.unwrap();
            let mut gunzip =
                create_subprocess_exec("gunzip", ["-c"]).stdin(Stdio::fd(reader)).stdout(Stdio::piped()).await.unwrap();
            let given = input.clone().into_bytes();
            let first = el.create_task(async move {
                gzip.communicate(Some(&given)).await.unwrap();
                gzip.returncode()
            });
            let (out, _) = gunzip.communicate(None).await.unwrap();
            assert!(text(out) == input);
            assert_eq!((first.await.unwrap(), gunzip.returncode()), (Some(0), Some(0)));
        });
        no_child_is_left();
    }

    /// SP-01: `yes | head`: the first one is ended by its broken pipe, as in a shell.
    fn a_pipeline_whose_end_closes_early(el) {
        complete(el, async {
            let (writer, reader) = between();
            let yes = create_subprocess_exec("yes", ["so"]).stdin(Stdio::null()).stdout(Stdio::fd(writer)).await.unwrap();
            let head = create_subprocess_exec("head", ["-n", "3"]).stdin(Stdio::fd(reader)).stdout(Stdio::piped());
            let mut head = head.limit(100).await.unwrap();
            assert_eq!(text(head.communicate(None).await.unwrap().0), "so\nso\nso\n");
            yes.wait().await.unwrap();
            assert_eq!((yes.returncode(), head.returncode()), (Some(-13), Some(0)));
        });
        no_child_is_left();
    }

    /// SP-01: three of them, and one in the middle is killed: its neighbours hear of that by their pipes, and end.
    fn killed_in_the_middle(el) {
        complete(el, async {
            let (first_out, middle_in) = between();
            let (middle_out, last_in) = between();
            let first = create_subprocess_exec("yes", ["x"]).stdout(Stdio::fd(first_out)).await.unwrap();
            let middle =
                create_subprocess_exec("cat", [""; 0]).stdin(Stdio::fd(middle_in)).stdout(Stdio::fd(middle_out));
            let middle = middle.await.unwrap();
            let mut last =
                create_subprocess_exec("cat", [""; 0]).stdin(Stdio::fd(last_in)).stdout(Stdio::piped()).await.unwrap();
            let stdout = last.stdout.as_mut().unwrap();
            assert_eq!(stdout.readexactly(200_000).await.unwrap(), b"x\n".repeat(100_000));
            middle.kill().unwrap();
            let rest = stdout.read_to_end().await.unwrap();
            assert!(rest.chunks(2).all(|line| b"x\n".starts_with(line)));
            for process in [&first, &middle, &last] {
                process.wait().await.unwrap();
            }
            let codes = [&first, &middle, &last].map(Process::returncode);
            assert_eq!(codes, [Some(-13), Some(-9), Some(0)]);
        });
        no_child_is_left();
    }

    /// A filter that is killed while much is on its way in both directions: both ends come, and what had come is whole.
    fn a_filter_is_killed(el) {
        complete(el, async {
            let mut process = exec("cat", &[]).await.unwrap();
            let input = lines(200_000).into_bytes();
            let mut stdin = process.stdin.take().unwrap();
            stdin.write(&input);
            let stdout = process.stdout.as_mut().unwrap();
            let begin = stdout.readexactly(300_000).await.unwrap();
            process.kill().unwrap();
            let rest = process.stdout.as_mut().unwrap().read_to_end().await.unwrap();
            let out = [begin, rest].concat();
            assert!(input.starts_with(&out) && out.len() < input.len());
            assert!(stdin.drain().await.is_err() || stdin.is_closing());
            process.wait().await.unwrap();
            assert_eq!(process.returncode(), Some(-9));
        });
        no_child_is_left();
    }

    /// SP-01: `tee` to its output and to a file, which was given as its errors.
    fn tee(el) {
        let file = tempfile::tempfile().unwrap();
        complete(el, async {
            let mut process = create_subprocess_exec("tee", ["/dev/stderr"])
                .stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::fd(file.try_clone().unwrap())).await.unwrap();
            let input = lines(1000);
            let (out, err) = process.communicate(Some(input.as_bytes())).await.unwrap();
            assert_eq!((text(out), err), (input.clone(), None));
            let mut file = file;
            std::io::Seek::rewind(&mut file).unwrap();
            assert_eq!(std::io::read_to_string(file).unwrap(), input);
        });
        no_child_is_left();
    }

    /// SP-07: a shell that is killed while a program of its runs has ended, and the program goes on until somebody tells it.
    fn a_killed_shell(el) {
        complete(el, async {
            let mut process = shell("exec 3<&0; cat <&3; true").await.unwrap();
            process.stdin.as_mut().unwrap().write(b"hello\n");
            assert_eq!(process.stdout.as_mut().unwrap().readline().await.unwrap(), b"hello\n");
            process.kill().unwrap();
            process.wait().await.unwrap();
            assert_eq!(process.returncode(), Some(-9));
            // The program is there, and has our pipes.
            process.stdin.as_mut().unwrap().write(b"still\n");
            assert_eq!(process.stdout.as_mut().unwrap().readline().await.unwrap(), b"still\n");
            process.stdin = None;
            assert_eq!(process.stdout.as_mut().unwrap().read_to_end().await.unwrap(), b"");
        });
        no_child_is_left();
    }
}

/// SP-25: an interpreter that is talked to, its errors, and its own child, which is none of ours.
#[test]
fn an_interpreter() {
    if !available("python3") {
        return;
    }
    common::on_loop(|el| {
        complete(el, async {
            let mut python = exec("python3", &["-u", "-i", "-q"]).await.unwrap();
            let stdin = python.stdin.as_mut().unwrap();
            stdin.write(b"import subprocess, sys\nprint(6 * 7)\n");
            assert_eq!(python.stdout.as_mut().unwrap().readline().await.unwrap(), b"42\n");
            let stdin = python.stdin.as_mut().unwrap();
            stdin.write(b"print(subprocess.run(['sh', '-c', 'exit 5']).returncode)\n1 / 0\n");
            assert_eq!(python.stdout.as_mut().unwrap().readline().await.unwrap(), b"5\n");
            let (out, err) = python.communicate(Some(b"sys.exit(12)\n")).await.unwrap();
            assert_eq!(text(out), "");
            assert!(text(err).contains("ZeroDivisionError"));
            assert_eq!(python.returncode(), Some(12));
        });
        run_until(el, || !has_children());
    });
}
