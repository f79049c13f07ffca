//! WebSocket frames as bytes (RFC 6455, §5.2): walking those that a server sends, building those that a client sends; and
//! walking a server's events. Pure.

use memchr::memmem;

/// A whole frame, in place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerFrame<'a> {
    /// The low four bits of the first byte.
    pub(crate) opcode: u8,
    /// The bytes that it carries.
    pub(crate) payload: &'a [u8],
    /// The size of the frame, its head included.
    pub(crate) bytes: usize,
}

/// Text.
pub(crate) const TEXT: u8 = 0x1;
/// The end.
pub(crate) const CLOSE: u8 = 0x8;
/// A question whether this side is alive.
pub(crate) const PING: u8 = 0x9;
/// The answer to it.
pub(crate) const PONG: u8 = 0xA;

/// The value that stands for a length that follows in two bytes.
const LENGTH_IN_2: u8 = 0x7E;
/// The value that stands for a length that follows in eight.
const LENGTH_IN_8: u8 = 0x7F;

/// Returns the frame that `bytes` begin with, if all of it is there. A server does not mask, so that the payload is
/// read where it lies.
#[inline]
pub(crate) fn next_frame(bytes: &[u8]) -> Option<ServerFrame<'_>> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    if first.is_ascii_graphic() {
        return next_event(bytes);
    }
    let (length, head) = match second & 0x7F {
        LENGTH_IN_2 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        LENGTH_IN_8 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap_or(usize::MAX), 10),
        short => (usize::from(short), 2),
    };
    let end = length.saturating_add(head);
    Some(ServerFrame { opcode: first & 0x0F, payload: bytes.get(head..end)?, bytes: end })
}

/// Returns the event that `bytes` begin with as the frame that a WebSocket would have had: one that fills the data of a line.
/// No frame begins with a character.
fn next_event(bytes: &[u8]) -> Option<ServerFrame<'_>> {
    let end = memmem::find(bytes, b"\n\n")?;
    let payload = memmem::find(&bytes[..end], b"data: ").map_or(&bytes[..0], |at| &bytes[at + 6..end]);
    // Nobody answers that a stream is alive.
    let opcode = match bytes.split(|&byte| byte == b'\n').next() {
        Some(b":") => PONG,
        Some(b"event: close") => CLOSE,
        _ => TEXT,
    };
    Some(ServerFrame { opcode, payload, bytes: end + 2 })
}

/// Returns what a frame of the kind [`CLOSE`] says: its code and its reason (RFC 6455, §5.5.1).
pub(crate) fn close_reason(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, reason)) => format!("{} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(reason)),
        None => "without a code".to_owned(),
    }
}

/// The mask that this client uses: a load generator hides nothing from proxies, and a fixed mask costs no chance.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x96];

/// Returns a whole frame of a client.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(opcode, payload.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns a whole text frame of a server.
pub(crate) fn server_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = head(TEXT, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// Returns the bytes that a server's frame has around a payload of this many.
pub(crate) fn head_bytes(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    }
}

fn head(opcode: u8, length: usize, mask_bit: u8) -> Vec<u8> {
    let mut head = Vec::with_capacity(14 + length);
    head.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => head.push(mask_bit | short),
        (_, Ok(medium)) => {
            head.push(mask_bit | LENGTH_IN_2);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            head.push(mask_bit | LENGTH_IN_8);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(mut bytes: &[u8], seen: &mut Vec<usize>) -> usize {
        let all = bytes.len();
        while let Some(frame) = next_frame(bytes) {
            assert_eq!(frame.opcode, TEXT);
            seen.push(frame.payload.len());
            bytes = &bytes[frame.bytes..];
        }
        all - bytes.len()
    }

    #[test]
    fn frames_are_the_same_wherever_the_stream_is_split() {
        let lengths = [0, 1, 125, 126, 300, 65_535, 65_536];
        let stream: Vec<u8> = lengths.iter().flat_map(|&length| server_frame(&vec![b'x'; length])).collect();
        let near_heads =
            |split: &usize| *split < 700 || split.is_multiple_of(997) || *split > 66_000 && *split < 66_200;
        for split in (0..=stream.len()).filter(near_heads) {
            let mut seen = Vec::new();
            let walked = walk(&stream[..split], &mut seen);
            let walked = walked + walk(&stream[walked..], &mut seen);
            assert_eq!((walked, &seen[..]), (stream.len(), &lengths[..]), "split at {split}");
        }
    }

    #[test]
    fn events_are_frames_too() {
        let stream =
            b":\nevent: ping\ndata:\n\nid: k3-4\ndata: {\"version\":4}\n\ndata: {}\n\nevent: close\ndata: {\"code\":1012}\n\nid: k3";
        let (mut walked, mut seen) = (0, Vec::new());
        while let Some(frame) = next_frame(&stream[walked..]) {
            walked += frame.bytes;
            seen.push((frame.opcode, str::from_utf8(frame.payload).unwrap()));
        }
        assert_eq!(seen, [(PONG, ""), (TEXT, r#"{"version":4}"#), (TEXT, "{}"), (CLOSE, r#"{"code":1012}"#)]);
        assert_eq!(&stream[walked..], b"id: k3");
    }

    #[test]
    fn heads_have_the_bytes_that_are_promised() {
        for length in [0, 125, 126, 65_535, 65_536] {
            assert_eq!(server_frame(&vec![0; length]).len(), length + head_bytes(length));
        }
    }

    #[test]
    fn a_client_masks() {
        let frame = client_frame(PING, b"hello");
        assert_eq!(&frame[..2], &[0x89, 0x85]);
        let unmasked: Vec<u8> = frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked, b"hello");
    }

    #[test]
    fn the_reason_of_a_close_begins_with_its_code() {
        assert_eq!(close_reason(b"\x0d\xaestale"), "3502 stale");
        assert_eq!(close_reason(b"\x03"), "without a code");
    }

    #[test]
    fn an_impossible_length_is_never_complete() {
        assert_eq!(next_frame(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255, 0]), None);
    }
}
