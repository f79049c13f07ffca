//! From the payload of a frame to the messages in it, for the envelopes of the servers that are compared. Pure.

use memchr::memchr;

use crate::message::leading_number;

/// Calls `each` with every line.
pub(crate) fn lines(payload: &[u8], each: impl FnMut(&[u8])) {
    payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(each);
}

/// The demands of the NATS operations of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// The bytes that were whole operations.
    pub(crate) bytes: usize,
    /// The server wants a `PONG`.
    pub(crate) pinged: bool,
}

/// Walks NATS operations (`MSG subject sid length`, a line, and a payload), and calls `each` with every payload.
/// <https://docs.nats.io/reference/reference-protocols/nats-protocol>
pub(crate) fn nats(stream: &[u8], mut each: impl FnMut(&[u8])) -> Walked {
    let mut walked = Walked { bytes: 0, pinged: false };
    while let Some(end) = memchr(b'\n', &stream[walked.bytes..]) {
        let line = &stream[walked.bytes..walked.bytes + end];
        let after = walked.bytes + end + 1;
        if line.starts_with(b"MSG ") {
            let length = usize::try_from(last_number(line)).unwrap_or(usize::MAX);
            let Some(payload) = stream.get(after..after.saturating_add(length)) else { break };
            // The payload ends in a line break too.
            if stream.len() < after + length + 2 {
                break;
            }
            each(payload);
            walked.bytes = after + length + 2;
        } else {
            walked.pinged |= line.starts_with(b"PING");
            walked.bytes = after;
        }
    }
    walked
}

fn last_number(line: &[u8]) -> u64 {
    let line = line.trim_ascii_end();
    let start = line.iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1);
    leading_number(&line[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_operations_are_the_same_wherever_the_stream_is_split() {
        let stream = b"INFO {}\r\nMSG p.1 1 5\r\nhello\r\nPING\r\nMSG p.2 2 0\r\n\r\nPONG\r\nMSG p.2 2 reply 11\r\nMSG a 1 1\r\n\r\n";
        for split in 0..=stream.len() {
            let mut seen: Vec<Vec<u8>> = Vec::new();
            let first = nats(&stream[..split], |payload| seen.push(payload.to_vec()));
            let second = nats(&stream[first.bytes..], |payload| seen.push(payload.to_vec()));
            assert_eq!(first.bytes + second.bytes, stream.len(), "split at {split}");
            assert_eq!(seen, [&b"hello"[..], b"", b"MSG a 1 1\r\n"]);
            assert!(first.pinged || second.pinged);
        }
    }

    #[test]
    fn empty_lines_are_no_messages() {
        let mut seen = Vec::new();
        lines(b"{}\n\n{\"a\":1}\n", |line| seen.push(line.to_vec()));
        assert_eq!(seen, [&b"{}"[..], b"{\"a\":1}"]);
    }
}
