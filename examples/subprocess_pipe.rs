//! Programs that are started, and their pipes: by callbacks, as streams, and one behind the other.
//!
//! `date` is asked for the time by a protocol, which hears of what the process writes and of its end. `sort` is given lines
//! and read to its end in one call. `bc`'s part is played by a shell, which answers line by line for as long as its input is
//! open. And the output of one program is the input of the next one, without a byte of it going through this process.
//!
//! Try it: `cargo run --quiet --example subprocess_pipe`

use std::io;
use std::os::unix::net::UnixStream;

use roundelay::{
    EventLoop, LoopFuture, ProcessHandle, Stdio, SubprocessProtocol, create_subprocess_exec, create_subprocess_shell,
};

/// Collects what a program writes, and gives it away at the end.
struct DateProtocol {
    output: Vec<u8>,
    done: LoopFuture<String>,
}

impl SubprocessProtocol for DateProtocol {
    fn pipe_data_received(&mut self, _: &ProcessHandle, _fd: i32, data: &[u8]) {
        self.output.extend_from_slice(data);
    }

    fn process_exited(&mut self, process: &ProcessHandle) {
        println!("date has returned {:?}", process.returncode());
    }

    /// Everything that it has written is here: its pipes are at their ends.
    fn connection_lost(&mut self, _: &ProcessHandle, _: Option<io::Error>) {
        let text = String::from_utf8_lossy(&self.output).trim_end().to_owned();
        let _ = self.done.set_result(text);
    }
}

async fn date(el: &EventLoop) -> io::Result<String> {
    let done = el.create_future();
    let protocol = DateProtocol { output: Vec::new(), done: done.clone() };
    el.subprocess_exec(move || protocol, "date", ["-u", "+%Y-%m-%d"]).stdin(Stdio::null()).await?;
    Ok(done.take().await.expect("the protocol sets it at its end"))
}

/// Input and output at one go.
async fn sort(lines: &[u8]) -> io::Result<Vec<u8>> {
    let mut sort = create_subprocess_exec("sort", ["-n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).await?;
    let (sorted, _) = sort.communicate(Some(lines)).await?;
    Ok(sorted.unwrap_or_default())
}

/// A question, an answer, the next question.
async fn converse() -> io::Result<()> {
    let calculate = "while read line; do echo $(($line)); done";
    let mut shell = create_subprocess_shell(calculate).stdin(Stdio::piped()).stdout(Stdio::piped()).await?;
    let (Some(mut stdin), Some(mut stdout)) = (shell.stdin.take(), shell.stdout.take()) else { unreachable!("piped") };
    for question in ["6 * 7", "1 << 20"] {
        stdin.write(format!("{question}\n").as_bytes());
        stdin.drain().await?;
        let answer = stdout.readline().await?;
        println!("{question} = {}", String::from_utf8_lossy(&answer).trim_end());
    }
    drop(stdin);
    shell.wait().await?;
    Ok(())
}

/// `printf .. | tr a-z A-Z`, without a shell.
async fn pipeline() -> io::Result<String> {
    let (writer, reader) = UnixStream::pair()?;
    let printf = create_subprocess_exec("printf", ["from one to the next"]).stdout(writer).await?;
    let mut tr = create_subprocess_exec("tr", ["a-z", "A-Z"]).stdin(reader).stdout(Stdio::piped()).await?;
    let output = tr.output().await?;
    printf.wait().await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn main() -> io::Result<()> {
    roundelay::block_on(async {
        let el = roundelay::get_running_loop()?;
        println!("today is {}", date(&el).await?);
        let sorted = sort(b"10\n9\n100\n").await?;
        println!("sorted: {}", String::from_utf8_lossy(&sorted).trim_end().replace('\n', " "));
        converse().await?;
        println!("{}", pipeline().await?);
        Ok(())
    })
}
