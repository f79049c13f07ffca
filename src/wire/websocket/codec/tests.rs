use proptest::prelude::*;

use super::*;

const LIMIT: usize = 300;

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0xFE);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// Decodes these pieces; returns everything that was received, then the error if there was one.
fn decode(pieces: &[&[u8]]) -> Vec<String> {
    let mut decoder = Decoder::new(LIMIT);
    let mut said = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            match decoder.decode(rest) {
                Ok((taken, received)) => {
                    assert!(taken > 0 || received.is_some(), "no progress");
                    if let Some(received) = received {
                        said.push(describe(&received));
                    }
                    rest = &mut rest[taken..];
                }
                Err(error) => {
                    said.push(format!("{error:?}"));
                    return said;
                }
            }
        }
    }
    decoder.release();
    let kept = decoder.partial.is_some();
    if kept {
        said.push("incomplete".to_owned());
    }
    said
}

fn describe(received: &Received<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match received {
        Received::Text(message) => format!("text {}", text(message)),
        Received::Binary(message) => format!("binary {}", text(message)),
        Received::Ping(payload) => format!("ping {}", text(payload)),
        Received::Pong(payload) => format!("pong {}", text(payload)),
        Received::Close(None) => "close".to_owned(),
        Received::Close(Some((code, reason))) => format!("close {code} {reason}"),
    }
}

/// Every place at which the bytes may be cut in two, and byte by byte, must make no difference.
fn decode_however_cut(bytes: &[u8]) -> Vec<String> {
    let whole = decode(&[bytes]);
    for cut in 0..=bytes.len() {
        assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(&single), whole, "byte by byte");
    whole
}

#[test]
fn messages_are_received_however_they_are_cut() {
    let long = "ü".repeat(130);
    let bytes = [
        frame(0x81, b"one"),
        frame(0x81, long.as_bytes()),
        frame(0x82, b"two"),
        frame(0x81, b""),
        frame(0x89, b"still there?"),
        frame(0x8A, b""),
        close_frame(1000, b"bye"),
    ]
    .concat();
    let long = format!("text {long}");
    assert_eq!(
        decode_however_cut(&bytes),
        ["text one", &long, "binary two", "text ", "ping still there?", "pong ", "close 1000 bye"]
    );
    assert_eq!(decode_however_cut(&frame(0x88, b"")), ["close"]);
}

#[test]
fn fragments_are_joined_and_control_frames_come_between() {
    let bytes = [
        frame(0x01, "a\u{fc}".as_bytes().split_at(2).0),
        frame(0x89, b"p"),
        frame(0x00, &"\u{fc}".as_bytes()[1..]),
        frame(0x00, b""),
        frame(0x8A, b"q"),
        frame(0x80, b"z"),
        frame(0x02, b""),
        frame(0x80, b""),
    ]
    .concat();
    assert_eq!(decode_however_cut(&bytes), ["ping p", "pong q", "text aüz", "binary "]);
}

#[test]
fn what_is_incomplete_is_waited_for() {
    for bytes in [&frame(0x01, b"a")[..], &frame(0x81, b"abc")[..8], &[0x81], &frame(0x81, &[b'x'; 200])[..3]] {
        assert_eq!(decode_however_cut(bytes), ["incomplete"]);
    }
}

#[test]
fn every_breach_of_the_framing_is_found() {
    let mut unmasked = frame(0x81, b"abc");
    unmasked[1] &= 0x7F;
    let long_ping = frame(0x89, &[0; 126]);
    for (bytes, what) in [
        (unmasked, "a client's frame is not masked"),
        (frame(0xC1, b"a"), "a reserved bit is set"),
        (frame(0xA1, b"a"), "a reserved bit is set"),
        (frame(0x91, b"a"), "a reserved bit is set"),
        (frame(0x83, b"a"), "an opcode is unknown"),
        (frame(0x87, b"a"), "an opcode is unknown"),
        (frame(0x8B, b"a"), "an opcode is unknown"),
        (frame(0x8F, b"a"), "an opcode is unknown"),
        (long_ping, "a control frame is longer than 125 bytes"),
        (frame(0x09, b"a"), "a control frame is fragmented"),
        (frame(0x08, b""), "a control frame is fragmented"),
        (frame(0x80, b"a"), "there is no message to continue"),
        (frame(0x00, b"a"), "there is no message to continue"),
        ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), "a message begins inside another"),
        ([frame(0x01, b"a"), frame(0x02, b"b")].concat(), "a message begins inside another"),
        (frame(0x88, &[3]), "a close code is cut off"),
        (close_frame(999, b""), "a close code is not one that may be sent"),
        (close_frame(1004, b""), "a close code is not one that may be sent"),
        (close_frame(1005, b""), "a close code is not one that may be sent"),
        (close_frame(1006, b""), "a close code is not one that may be sent"),
        (close_frame(1015, b""), "a close code is not one that may be sent"),
        (close_frame(2999, b""), "a close code is not one that may be sent"),
        (close_frame(5000, b""), "a close code is not one that may be sent"),
    ] {
        assert_eq!(decode_however_cut(&bytes), [format!("Protocol({what:?})")], "{bytes:x?}");
        let after_a_message = [frame(0x81, b"good"), bytes].concat();
        assert_eq!(decode_however_cut(&after_a_message)[0], "text good");
    }
}

#[test]
fn text_that_is_not_utf8_is_found_as_soon_as_it_comes() {
    for bytes in [
        frame(0x81, &[0xFF]),
        frame(0x81, &[0xED, 0xA0, 0x80]),
        frame(0x81, &[b'a', 0xC3]),
        [frame(0x01, &[0xC3]), frame(0x80, b"")].concat(),
        frame(0x01, &[0xC3, b'a']),
        close_frame(1000, &[0xFF]),
    ] {
        assert_eq!(decode_however_cut(&bytes), ["InvalidUtf8"], "{bytes:x?}");
    }
    let begun = &frame(0x81, &[&[b'a', 0xFF][..], &[b'b'; 100]].concat())[..8];
    assert_eq!(decode(&[&begun[..6], &begun[6..]]), ["InvalidUtf8"], "before the rest of the frame");
}

#[test]
fn a_message_above_the_limit_is_refused_at_its_announcement() {
    let just = frame(0x81, &[b'x'; LIMIT]);
    assert_eq!(decode_however_cut(&just).len(), 1);
    assert_eq!(decode_however_cut(&frame(0x81, &[b'x'; LIMIT + 1])[..8]), ["MessageTooBig"]);
    let fragments = [frame(0x01, &[b'x'; LIMIT]), frame(0x80, b"y")[..6].to_vec()].concat();
    assert_eq!(decode_however_cut(&fragments), ["MessageTooBig"]);
    let huge = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    assert_eq!(decode_however_cut(&huge), ["MessageTooBig"]);
}

#[test]
fn an_announced_length_costs_no_memory() {
    let mut decoder = Decoder::new(u32::MAX as usize);
    let mut head = [0x82, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 5];
    assert_eq!(decoder.decode(&mut head), Ok((15, None)));
    assert!(decoder.partial.unwrap().message.capacity() < 100);
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_alike_however_they_are_cut(
        bytes in proptest::collection::vec(prop_oneof![
            3 => any::<u8>(),
            1 => Just(0x81u8),
            1 => Just(0x80u8),
            1 => Just(0x01u8),
        ], 0..60),
        cuts in proptest::collection::vec(0usize..60, 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        prop_assert_eq!(decode(&pieces), decode(&[&bytes]));
    }

    #[test]
    fn what_was_framed_is_received(
        messages in proptest::collection::vec((any::<bool>(), "[a-zäß€]{0,90}", 1usize..5), 0..6),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (is_text, text, fragments) in messages {
            let size = text.len().div_ceil(fragments).max(1);
            let mut parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            if parts.is_empty() {
                parts.push(b"");
            }
            for (place, part) in parts.iter().enumerate() {
                let opcode = if place > 0 { 0 } else if is_text { 1 } else { 2 };
                let fin = if place + 1 == parts.len() { 0x80 } else { 0 };
                bytes.extend(frame(fin | opcode, part));
            }
            expected.push(format!("{} {text}", if is_text { "text" } else { "binary" }));
        }
        prop_assert_eq!(decode_however_cut(&bytes), expected);
    }
}

/// The units of work of these frames, given in pieces of so many bytes.
fn units(frames: &[u8], piece_bytes: usize) -> u32 {
    let mut decoder = Decoder::new(1 << 20);
    let mut units = 0;
    for piece in frames.chunks(piece_bytes) {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            let (taken, _) = decoder.decode(rest).unwrap();
            units += decoder.take_units();
            rest = &mut rest[taken..];
        }
    }
    units
}

#[test]
fn a_unit_is_a_frame_or_a_further_part_of_a_message() {
    let long = |bytes: usize| frame(0x81, &vec![b' '; bytes]);
    let in_fragments = [frame(0x01, b"a"), frame(0x00, b""), frame(0x89, b"p"), frame(0x00, b"b"), frame(0x80, b"")];
    for (frames, expected) in [
        (frame(0x81, b"x"), 1),
        (frame(0x89, b"x"), 1),
        (long(4095), 1),
        (long(4096), 2),
        (long(60_000), 15),
        (in_fragments.concat(), 5),
        ([frame(0x01, &[b' '; 3000]), frame(0x00, &[b' '; 3000]), frame(0x80, &[b' '; 3000])].concat(), 5),
    ] {
        for piece_bytes in [1, 7, 1000, usize::MAX] {
            assert_eq!(units(&frames, piece_bytes), expected, "{} bytes in pieces of {piece_bytes}", frames.len());
        }
    }
}

#[test]
fn one_call_takes_a_bounded_number_of_frames() {
    let mut frames = [frame(0x01, b""), frame(0x00, b"").repeat(1000)].concat();
    let mut decoder = Decoder::new(LIMIT);
    assert_eq!(decoder.decode(&mut frames), Ok((64 * 6, None)));
    assert_eq!(decoder.take_units(), 64);
}
