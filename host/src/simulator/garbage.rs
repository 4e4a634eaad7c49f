//! What a broken gateway sends. None of it is JSON.

use fastrand::Rng;

/// Makes garbage of a JSON object.
pub fn spoil(payload: &mut Vec<u8>, rng: &mut Rng) {
    match rng.u8(0..4) {
        // Cut off somewhere: without its closing brace no object is whole.
        0 => payload.truncate(rng.usize(1..payload.len().max(2))),
        // Bytes that are no text at all.
        1 => {
            payload.clear();
            payload.extend((0..rng.usize(1..32)).map(|_| rng.u8(128..)));
        }
        2 => {
            payload.clear();
            payload.extend_from_slice(b"ERR 17: sensor bus timeout");
        }
        // A page where data was wanted.
        _ => {
            payload.clear();
            payload.extend_from_slice(b"<html><body>502 Bad Gateway</body></html>");
        }
    }
}
