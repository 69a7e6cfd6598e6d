//! A filter: reads lines from its standard input, and writes those that contain a word, in capitals, to its standard output.
//!
//! Either may be a terminal, a pipe, a socket or a file: the loop waits for the ones and leaves the others to a thread.
//! `drain` makes the filter wait for a reader that is slower than the writer, so it needs no more memory for a gigabyte than
//! for a line. When the reader goes away, as `head` does, it says so by a `BrokenPipe`, and there is nothing left to do.
//! What was written last is flushed at the end of `block_on`, but an error of that is nobody's; so a program that wants to
//! know closes its output and waits.
//!
//! Try it: `ls /usr/bin | cargo run --quiet --example pipe_filter -- ssh | head -3`

use std::io::{self, ErrorKind};

use roundelay::{ReadError, StreamReader, StreamWriter, stdin, stdout};

async fn filter(mut input: StreamReader, output: &mut StreamWriter, word: &[u8]) -> io::Result<()> {
    loop {
        let mut line = match input.readline().await {
            Ok(line) if line.is_empty() => return Ok(()),
            Ok(line) => line,
            Err(ReadError::Overrun(_)) => {
                eprintln!("pipe_filter: a line of more than {} bytes is left out", input.limit());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if word.is_empty() || line.windows(word.len()).any(|part| part == word) {
            line.make_ascii_uppercase();
            output.write_owned(line);
            output.drain().await?;
        }
    }
}

fn main() -> io::Result<()> {
    let word = std::env::args().nth(1).unwrap_or_default();
    let done = roundelay::block_on(async {
        let (input, mut output) = (stdin()?, stdout()?);
        filter(input, &mut output, word.as_bytes()).await?;
        output.close();
        output.wait_closed().await
    });
    match done {
        // Whoever read has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
