//! What a client sends after the handshake: [`Decoder`] against a second reading of RFC 6455 that is as plain as can
//! be, with the bytes cut at many places, and within the memory that came.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use rowcast::wire::websocket::Opcode;
use rowcast::wire::websocket::{CodecError, Decoder, Received};
use rowcast_fuzz::within;

/// What a reader says of the bytes: what it received, and how it ended.
type Said = (Vec<Event>, End);

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Every byte was taken.
    Input,
    Protocol,
    InvalidUtf8,
    MessageTooBig,
}

/// A frame that is built from the input, so that most are right; the other inputs are the wire's bytes as they are.
#[derive(Arbitrary, Debug)]
struct BuiltFrame<'a> {
    first: u8,
    mask: [u8; 4],
    /// What is wrong with it: mostly nothing.
    flaw: u8,
    payload: &'a [u8],
}

impl BuiltFrame<'_> {
    fn write(&self, wire: &mut Vec<u8>) {
        // The six opcodes that there are, and only sometimes others and reserved bits.
        const FIRST: [u8; 12] = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0x81, 0x00, 0x80];
        let first = FIRST.get(usize::from(self.first & 0x0F)).copied().unwrap_or(self.first);
        let is_control = first & 0x08 != 0;
        let payload = if is_control { &self.payload[..self.payload.len().min(125)] } else { self.payload };
        let length = payload.len() as u64 + u64::from(self.flaw == 1);
        wire.push(first);
        let masked = if self.flaw == 2 { 0 } else { 0x80 };
        match length {
            0..=125 if self.flaw != 3 && self.flaw != 4 => {
                wire.push(masked | payload.len() as u8 | u8::from(self.flaw == 1))
            }
            0..=65_535 if self.flaw != 4 => {
                wire.push(masked | 126);
                wire.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                wire.push(masked | 127);
                wire.extend_from_slice(&length.to_be_bytes());
            }
        }
        wire.extend_from_slice(&self.mask);
        wire.extend(payload.iter().zip(self.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let [mode, cuts, limit, rest @ ..] = data else { return Corpus::Reject };
    let limit = usize::from(*limit) * usize::from(*limit);
    let mut wire = Vec::new();
    if mode & 1 == 0 {
        wire.extend_from_slice(rest);
    } else {
        let mut unstructured = Unstructured::new(rest);
        while let Ok(frame) = BuiltFrame::arbitrary(&mut unstructured) {
            frame.write(&mut wire);
            if unstructured.is_empty() {
                break;
            }
        }
    }
    let expected = second_reading(&wire, limit);
    for piece_bytes in [usize::MAX, 1, usize::from(*cuts).max(1)] {
        assert_eq!(decode(&wire, limit, |_| piece_bytes), expected, "in pieces of {piece_bytes}");
    }
    // Pieces of changing lengths.
    let mut state = u32::from(*cuts) | 0x100;
    let lengths = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % 40
    };
    assert_eq!(decode(&wire, limit, lengths), expected, "in pieces of changing lengths");
    Corpus::Keep
});

fn decode(wire: &[u8], limit: usize, mut piece_bytes: impl FnMut(usize) -> usize) -> Said {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    let mut at = 0;
    while at < wire.len() {
        let end = at.saturating_add(piece_bytes(at)).min(wire.len());
        let mut piece = wire[at..end].to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            // What is kept is what came of one message and one control frame, in vectors that double; what a length
            // announces costs nothing.
            let kept_max = 3 * end.min(limit + 125) + 512;
            let available = rest.len();
            let decoded =
                within(kept_max, || decoder.decode(rest).map(|(taken, received)| (taken, received.map(Kept::of))));
            let (taken, event) = match decoded {
                Ok(decoded) => decoded,
                Err(error) => return (events, error_end(error)),
            };
            assert!(taken > 0 && taken <= available, "took {taken} of {available}");
            events.extend(event.map(Kept::into_event));
            rest = &mut rest[taken..];
        }
        // As the connection does after each read.
        decoder.release();
        at = end;
    }
    (events, End::Input)
}

/// What was received, still where the decoder has it.
enum Kept<'a> {
    Data(bool, &'a [u8]),
    Other(Event),
}

impl<'a> Kept<'a> {
    fn of(received: Received<'a>) -> Self {
        match received {
            Received::Text(text) => Self::Data(true, text),
            Received::Binary(bytes) => Self::Data(false, bytes),
            Received::Ping(payload) => Self::Other(Event::Ping(payload.to_vec())),
            Received::Pong(payload) => Self::Other(Event::Pong(payload.to_vec())),
            Received::Close(status) => {
                Self::Other(Event::Close(status.map(|(code, reason)| (code, reason.to_owned()))))
            }
        }
    }

    fn into_event(self) -> Event {
        match self {
            Self::Data(true, text) => Event::Text(text.to_vec()),
            Self::Data(false, bytes) => Event::Binary(bytes.to_vec()),
            Self::Other(event) => event,
        }
    }
}

const fn error_end(error: CodecError) -> End {
    match error {
        CodecError::Protocol(_) => End::Protocol,
        CodecError::InvalidUtf8 => End::InvalidUtf8,
        CodecError::MessageTooBig => End::MessageTooBig,
    }
}

/// Reads all bytes at once, frame by frame, and copies whatever it likes.
fn second_reading(wire: &[u8], limit: usize) -> Said {
    let mut events = Vec::new();
    let end = read_frames(wire, limit, &mut events).err().unwrap_or(End::Input);
    (events, end)
}

fn read_frames(mut wire: &[u8], limit: usize, events: &mut Vec<Event>) -> Result<(), End> {
    let mut message: Option<(Opcode, Vec<u8>)> = None;
    while let [first, after @ ..] = wire {
        let (fin, opcode) = (first >> 7 == 1, first & 15);
        let is_control = opcode >= 8;
        if first & 0x70 != 0 || !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10) || (is_control && !fin) {
            return Err(End::Protocol);
        }
        let [second, after @ ..] = after else { return Ok(()) };
        let short = second & 127;
        if second >> 7 == 0 || (is_control && short > 125) {
            return Err(End::Protocol);
        }
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((long, after)) = after.split_at_checked(length_bytes) else { return Ok(()) };
        let length = long.iter().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        let length = match short {
            126 if length < 126 => return Err(End::Protocol),
            127 if length < 65_536 || length >= 1 << 63 => return Err(End::Protocol),
            126 | 127 => length,
            short => u64::from(short),
        };
        let Some((mask, after)) = after.split_at_checked(4) else { return Ok(()) };
        let before = message.as_ref().map_or(0, |(_, bytes)| bytes.len());
        if !is_control && before as u64 + length > limit as u64 {
            return Err(End::MessageTooBig);
        }
        match opcode {
            0 if message.is_none() => return Err(End::Protocol),
            1 | 2 if message.is_some() => return Err(End::Protocol),
            1 => message = Some((Opcode::Text, Vec::new())),
            2 => message = Some((Opcode::Binary, Vec::new())),
            _ => {}
        }
        let have = usize::try_from(length).unwrap_or(usize::MAX).min(after.len());
        let is_whole = have as u64 == length;
        let payload: Vec<u8> = after[..have].iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        wire = &after[have..];
        if is_control {
            if is_whole {
                events.push(control(opcode, payload)?);
            }
            continue;
        }
        let (kind, bytes) = message.as_mut().expect("begun above");
        bytes.extend_from_slice(&payload);
        let ends = fin && is_whole;
        if *kind == Opcode::Text {
            match std::str::from_utf8(bytes) {
                Ok(_) => {}
                Err(error) if error.error_len().is_none() && !ends => {}
                Err(_) => return Err(End::InvalidUtf8),
            }
        }
        if ends {
            let (kind, bytes) = message.take().expect("begun above");
            events.push(if kind == Opcode::Text { Event::Text(bytes) } else { Event::Binary(bytes) });
        }
    }
    Ok(())
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Event, End> {
    match (opcode, &payload[..]) {
        (9, _) => Ok(Event::Ping(payload)),
        (10, _) => Ok(Event::Pong(payload)),
        (_, []) => Ok(Event::Close(None)),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from(*high) << 8 | u16::from(*low);
            if code < 1000 || code > 4999 || (1015..3000).contains(&code) || matches!(code, 1004 | 1005 | 1006) {
                return Err(End::Protocol);
            }
            let reason = String::from_utf8(reason.to_vec()).map_err(|_| End::InvalidUtf8)?;
            Ok(Event::Close(Some((code, reason))))
        }
        _ => Err(End::Protocol),
    }
}
