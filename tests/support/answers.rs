//! What requests are answered, written down for those who hold it to the protocol's reference: `tests/reference` reads
//! the file that `ROWCAST_ANSWERS` names, one JSON object per line.

use std::collections::HashMap;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::{Map, json};

use super::server::Reply;

/// The longest body that is written down.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most answers of one kind: of one method and status to one path, whatever its numbers.
const SAME_MAX: usize = 64;

static WRITTEN: LazyLock<Option<Mutex<Written>>> = LazyLock::new(|| {
    let path = env::var_os("ROWCAST_ANSWERS")?;
    let file = OpenOptions::new().create(true).append(true).open(path).expect("ROWCAST_ANSWERS names a file");
    Some(Mutex::new(Written { file, kinds: HashMap::new() }))
});

struct Written {
    file: File,
    kinds: HashMap<(String, String, u16), usize>,
}

/// Writes an answer down, if somebody asked for that.
pub(crate) fn write_down(method: &str, target: &str, reply: &Reply) {
    let Some(written) = &*WRITTEN else { return };
    if reply.text.len() > BODY_BYTES_MAX {
        return;
    }
    let path = target.split('?').next().unwrap_or("");
    let path = path.replace(|c: char| c.is_ascii_digit(), "");
    let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
    let same = written.kinds.entry((method.to_owned(), path, reply.status.as_u16())).or_default();
    *same += 1;
    if *same > SAME_MAX {
        return;
    }
    let headers = reply.headers.iter().map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap_or(""))));
    let (status, headers): (_, Map<_, _>) = (reply.status.as_u16(), headers.collect());
    let line = json!({ "method": method, "target": target, "status": status, "headers": headers, "text": reply.text });
    written.file.write_all(format!("{line}\n").as_bytes()).expect("ROWCAST_ANSWERS can be written to");
}
