//! The head of a client's frame (RFC 6455, §5.2): pure.

use super::CodecError;
use crate::wire::websocket::Opcode;

/// Two bytes, a length of eight, and a mask of four.
pub(super) const HEADER_BYTES_MAX: usize = 14;
/// The most that a control frame may carry (§5.5).
pub(super) const CONTROL_BYTES_MAX: u64 = 125;

/// The kind of a frame: the start of a message, more of it, or a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Continuation,
    Start(Opcode),
    Control(Opcode),
}

/// The head of a frame that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// True if this frame ends its message.
    pub(super) fin: bool,
    pub(super) mask: [u8; 4],
    pub(super) payload_bytes: u64,
    /// The number of bytes that the head itself has.
    pub(super) bytes: usize,
}

impl Header {
    /// Reads the head at the front of `bytes`; returns `None` if it is incomplete. Faults are found in the order of the
    /// bytes, so that it makes no difference where they were cut.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let fin = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(CodecError::Protocol("a reserved bit is set"));
        }
        let kind = kind(first & 0x0F)?;
        if matches!(kind, Kind::Control(_)) && !fin {
            return Err(CodecError::Protocol("a control frame is fragmented"));
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(CodecError::Protocol("a client's frame is not masked"));
        }
        let short = u64::from(second & 0x7F);
        if matches!(kind, Kind::Control(_)) && short > CONTROL_BYTES_MAX {
            return Err(CodecError::Protocol("a control frame is longer than 125 bytes"));
        }
        let Some((payload_bytes, length_bytes)) = length(short, &bytes[2..])? else { return Ok(None) };
        let Some(&mask) = bytes[2 + length_bytes..].first_chunk() else { return Ok(None) };
        Ok(Some(Self { kind, fin, mask, payload_bytes, bytes: 2 + length_bytes + 4 }))
    }
}

const fn kind(opcode: u8) -> Result<Kind, CodecError> {
    Ok(match opcode {
        0x0 => Kind::Continuation,
        0x1 => Kind::Start(Opcode::Text),
        0x2 => Kind::Start(Opcode::Binary),
        0x8 => Kind::Control(Opcode::Close),
        0x9 => Kind::Control(Opcode::Ping),
        0xA => Kind::Control(Opcode::Pong),
        _ => return Err(CodecError::Protocol("an opcode is unknown")),
    })
}

/// Returns the payload's length, and the number of bytes after the second that tell it.
fn length(short: u64, rest: &[u8]) -> Result<Option<(u64, usize)>, CodecError> {
    let (length, length_bytes, least) = match short {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2, 126),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8, 65_536),
            None => return Ok(None),
        },
        _ => (short, 0, 0),
    };
    if length < least || length >> 63 != 0 {
        return Err(CodecError::Protocol("a length is not written in the fewest bytes"));
    }
    Ok(Some((length, length_bytes)))
}

/// Takes the mask off `payload`, which begins `offset` bytes into its frame's payload (§5.3).
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left((offset % 4) as usize);
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_taken_off_from_any_offset() {
        let mask = [1, 2, 3, 4];
        let plain: Vec<u8> = (0..50).collect();
        let mut masked = plain.clone();
        unmask(&mut masked, mask, 0);
        assert_eq!(masked[..5], [1, 1 ^ 2, 2 ^ 3, 3 ^ 4, 4 ^ 1]);
        for cut in 0..=plain.len() {
            let mut parts = masked.clone();
            let (head, tail) = parts.split_at_mut(cut);
            unmask(head, mask, 0);
            unmask(tail, mask, cut as u64);
            assert_eq!(parts, plain, "cut at {cut}");
        }
    }

    #[test]
    fn a_length_is_written_in_the_fewest_bytes() {
        let head = |length: &[u8]| [&[0x81], length, &[9, 9, 9, 9]].concat();
        let parsed = |length: &[u8]| Header::parse(&head(length)).map(|header| header.map(|h| h.payload_bytes));
        let wrong = Err(CodecError::Protocol("a length is not written in the fewest bytes"));
        assert_eq!(parsed(&[0xFD]), Ok(Some(125)));
        assert_eq!(parsed(&[0xFE, 0, 126]), Ok(Some(126)));
        assert_eq!(parsed(&[0xFE, 0, 125]), wrong);
        assert_eq!(parsed(&[0xFF, 0, 0, 0, 0, 0, 1, 0, 0]), Ok(Some(65_536)));
        assert_eq!(parsed(&[0xFF, 0, 0, 0, 0, 0, 0, 255, 255]), wrong);
        assert_eq!(parsed(&[0xFF, 128, 0, 0, 0, 0, 1, 0, 0]), wrong);
    }
}
