//! What a terminal sends, as keys.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// The sequences that terminals send for keys that are no characters.
const SEQUENCES: [(&[u8], Key); 14] = [
    (b"\x1b[A", Key::Up),
    (b"\x1bOA", Key::Up),
    (b"\x1b[B", Key::Down),
    (b"\x1bOB", Key::Down),
    (b"\x1b[5~", Key::PageUp),
    (b"\x1b[6~", Key::PageDown),
    (b"\x1b[H", Key::Home),
    (b"\x1bOH", Key::Home),
    (b"\x1b[1~", Key::Home),
    (b"\x1b[7~", Key::Home),
    (b"\x1b[F", Key::End),
    (b"\x1bOF", Key::End),
    (b"\x1b[4~", Key::End),
    (b"\x1b[8~", Key::End),
];

/// The keys of what was read. What is not known is skipped; an escape alone, or Control-C, stands for `q`.
pub(crate) fn keys(mut bytes: &[u8]) -> impl Iterator<Item = Key> {
    std::iter::from_fn(move || {
        loop {
            if let Some((sequence, key)) = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence)) {
                bytes = &bytes[sequence.len()..];
                return Some(*key);
            }
            let (first, rest) = bytes.split_first()?;
            bytes = rest;
            match first {
                b'\x03' => return Some(Key::Char('q')),
                b'\x1b' if rest.is_empty() => return Some(Key::Char('q')),
                // A sequence of another key: up to its last byte.
                b'\x1b' => {
                    let end = rest.iter().skip(1).position(|byte| (0x40..0x7f).contains(byte));
                    bytes = end.map_or(&[], |end| &rest[end + 2..]);
                }
                b' '..=b'~' => return Some(Key::Char((*first).into())),
                _ => {}
            }
        }
    })
}
