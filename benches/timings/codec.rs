//! What a core does with the bytes of a client: frames into messages, messages into commands.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use rowcast::session::command::parse;
use rowcast::wire::websocket::Decoder;
use simd_json::Buffers;

use crate::fixtures::{client_frame, subscribe_json};

const MESSAGE_BYTES_MAX: usize = 256 * 1024;
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const TEXT_BEGUN: u8 = 0x01;
const CONTINUED: u8 = 0x00;
const CONTINUED_LAST: u8 = 0x80;
const PONG: u8 = 0x8A;

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_decode(criterion);
    bench_parse(criterion);
}

fn bench_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let (ten, thousand) = (subscribe_json(0..10), subscribe_json(0..1000));
    for (name, bytes) in [
        ("decode a subscribe of 10", client_frame(TEXT, ten.as_bytes())),
        ("decode a subscribe of 1,000", client_frame(TEXT, thousand.as_bytes())),
        ("decode 1,000 pongs", client_frame(PONG, b"").repeat(1000)),
        ("decode a subscribe of 1,000 in 16 fragments", fragmented(thousand.as_bytes(), 16)),
        ("unmask 64 KiB", client_frame(BINARY, &vec![b'x'; 64 * 1024])),
    ] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(|| bytes.clone(), |bytes| decode(bytes), BatchSize::SmallInput);
        });
        let piece = 1400;
        if bytes.len() > piece {
            group.bench_function(BenchmarkId::new(name, "as segments come"), |bencher| {
                bencher.iter_batched_ref(
                    || bytes.clone(),
                    |bytes| decode_in_pieces(bytes, piece),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

fn bench_parse(criterion: &mut Criterion) {
    let tables = rowcast::model::table::Tables::new();
    let mut group = criterion.benchmark_group("codec");
    let named = r#"{"id":"a","command":"unsubscribe","productIDs":[1]}"#.to_owned();
    for (name, json) in [
        ("parse a subscribe of 10", subscribe_json(0..10)),
        ("parse a subscribe of 1,000", subscribe_json(0..1000)),
        ("parse an unsubscribe with an id", named),
    ] {
        let mut buffers = Buffers::default();
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || json.clone().into_bytes(),
                |text| parse(text, &mut buffers, &tables, None).expect("it is a command"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn decode(bytes: &mut [u8]) {
    decode_on(&mut Decoder::new(MESSAGE_BYTES_MAX), bytes);
}

/// As they come from a socket, which does not know where frames begin.
fn decode_in_pieces(bytes: &mut [u8], piece: usize) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    for piece in bytes.chunks_mut(piece) {
        decode_on(&mut decoder, piece);
    }
}

fn decode_on(decoder: &mut Decoder, mut rest: &mut [u8]) {
    while !rest.is_empty() {
        let (taken, received) = decoder.decode(rest).expect("the frames are right");
        black_box(received);
        rest = &mut rest[taken..];
    }
}

/// One message in so many frames.
fn fragmented(payload: &[u8], fragments: usize) -> Vec<u8> {
    let parts: Vec<_> = payload.chunks(payload.len().div_ceil(fragments)).collect();
    let last = parts.len() - 1;
    let first_byte = |place| {
        if place == 0 {
            TEXT_BEGUN
        } else if place == last {
            CONTINUED_LAST
        } else {
            CONTINUED
        }
    };
    parts.iter().enumerate().flat_map(|(place, part)| client_frame(first_byte(place), part)).collect()
}
