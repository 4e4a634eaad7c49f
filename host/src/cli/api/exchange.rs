//! One request and its answer over a connection, piece by piece, so that it can be told how far they are.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, bail};

use super::progress::Passage;

/// The most of an answer.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// The most of its head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// What is written and read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Status and body of the answer. `passage` is told of what goes there, and of what comes back.
pub(super) fn exchange<'n>(
    stream: &mut (impl Read + Write),
    head: &str,
    body: Option<&[u8]>,
    passage: impl Fn(&'static str, u64) -> Passage<'n>,
) -> anyhow::Result<(u16, Vec<u8>)> {
    stream.write_all(head.as_bytes())?;
    let body = body.unwrap_or_default();
    let mut sending = passage("sent", body.len() as u64);
    let mut pieces = body.chunks(PIECE_BYTES);
    let sent = pieces.try_for_each(|piece| stream.write_all(piece).map(|()| sending.passed(piece.len())));
    // Who refuses early may not read all of it: what it says comes all the same.
    let sent = sent.and_then(|()| stream.flush());
    let (mut answer, read) = received(stream, sending, &passage);
    let (head, status) = loop {
        let Some(end) = end_of_head(&answer, 0) else {
            sent.context("it hung up")?;
            read.context("it did not answer")?;
            bail!("it hung up");
        };
        let head = text(&answer, end);
        answer.drain(..end + 4);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("it does not speak HTTP")?;
        // What is said on the way to the answer (RFC 9110, 15.2) is not it.
        if !(100..=199).contains(&status) {
            break (head, status);
        }
    };
    // A proxy may cut in pieces what a host sends whole.
    if field(&head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok((status, whole(&answer).context("its answer was cut off")?));
    }
    if length(&head).is_some_and(|length| (answer.len() as u64) < length) {
        bail!("its answer was cut off");
    }
    Ok((status, answer))
}

/// What came in chunks (RFC 9112, 7.1), without what may stand behind the last; none if that did not come.
fn whole(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::with_capacity(chunks.len());
    loop {
        let Ok(httparse::Status::Complete((start, bytes))) = httparse::parse_chunk_size(chunks) else { return None };
        if bytes == 0 {
            return Some(whole);
        }
        let (chunk, rest) = chunks.get(start..)?.split_at_checked(usize::try_from(bytes).ok()?)?;
        whole.extend_from_slice(chunk);
        chunks = rest.strip_prefix(b"\r\n")?;
    }
}

/// What comes until the other side ends it, and why no more came. That all is sent is told until something comes: the host is at work meanwhile.
fn received<'n>(
    stream: &mut impl Read,
    sending: Passage<'n>,
    passage: impl Fn(&'static str, u64) -> Passage<'n>,
) -> (Vec<u8>, std::io::Result<()>) {
    let (mut answer, mut piece, mut sending, mut receiving) =
        (Vec::new(), vec![0; PIECE_BYTES], Some(sending), None::<Passage<'n>>);
    while answer.len() < MAX_ANSWER_BYTES {
        let bytes = match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return (answer, Err(error)),
        };
        sending = None;
        answer.extend_from_slice(piece.get(..bytes).unwrap_or_default());
        match &mut receiving {
            Some(receiving) => receiving.passed(bytes),
            // What came before this piece may end with the beginning of the end.
            None => {
                let end = end_of_head(&answer, answer.len().saturating_sub(bytes + 3));
                receiving = end.map(|end| begun(&answer, end, &passage));
                if receiving.is_none() && answer.len() > MAX_HEAD_BYTES {
                    break;
                }
            }
        }
    }
    drop(sending);
    (answer, Ok(()))
}

/// An answer whose head is whole.
fn begun<'n>(answer: &[u8], end: usize, passage: impl Fn(&'static str, u64) -> Passage<'n>) -> Passage<'n> {
    let mut receiving = passage("received", length(&text(answer, end)).unwrap_or_default());
    receiving.passed(answer.len().saturating_sub(end + 4));
    receiving
}

/// Where the head ends, in its first bytes; those before `from` are known to be of it.
fn end_of_head(answer: &[u8], from: usize) -> Option<usize> {
    let most = answer.len().min(MAX_HEAD_BYTES + PIECE_BYTES);
    let found = answer.get(from..most)?.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(from + found)
}

fn text(answer: &[u8], end: usize) -> String {
    String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).into_owned()
}

fn length(head: &str) -> Option<u64> {
    field(head, "content-length")?.parse().ok()
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the end of a head is found once it is whole, however the answer comes in pieces, and not before; a length is told whatever its field's case.
    #[test]
    fn heads_in_pieces() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 4\r\n\r\n\r\n\r\n";
        let head = answer.len() - 8;
        for piece in 1..=answer.len() {
            let (mut came, mut found) = (Vec::new(), None);
            for bytes in answer.chunks(piece) {
                came.extend_from_slice(bytes);
                found = end_of_head(&came, came.len().saturating_sub(bytes.len() + 3));
                assert_eq!(found.is_some(), came.len() >= head + 4, "{piece}: {came:?}");
                if found.is_some() {
                    break;
                }
            }
            assert_eq!(found, Some(head), "{piece}");
        }
        assert_eq!(length(&text(answer, head)), Some(4));
        assert_eq!(end_of_head(&vec![b'x'; 4 * MAX_HEAD_BYTES], MAX_HEAD_BYTES), None);
    }
}
