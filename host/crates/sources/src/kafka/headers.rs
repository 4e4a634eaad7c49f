//! The headers of a record, whatever they are called: a name is bytes to Kafka, and no broker looks at it.
//!
//! `rdkafka` panics where one is not UTF-8 (its `try_get`). Anybody who may produce can send such a record, and it would end whoever reads it, again
//! after each restart. So that panic is caught here, header by header: the others of the record stay what they are.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::Message;
use rdkafka::message::{Header, Headers};

/// What a header is called whose own name is not UTF-8. Its value is not known.
const UNREADABLE: &str = "\u{fffd}";
/// After so many of them the rest of a record's headers is left: a panic costs thousands of times what a header does.
const MOST_UNREADABLE: usize = 4;

/// The headers of `record`, in their order.
pub(super) fn of<'m, M: Message>(record: &'m M) -> impl Iterator<Item = Header<'m, &'m [u8]>> + use<'m, M> {
    let headers = record.headers();
    let mut unreadable = 0;
    (0..headers.map_or(0, Headers::count)).map_while(move |at| {
        if unreadable == MOST_UNREADABLE {
            return None;
        }
        // Unwind safety: the headers are only read.
        catch_unwind(AssertUnwindSafe(|| headers?.try_get(at))).unwrap_or_else(|_| {
            unreadable += 1;
            Some(Header { key: UNREADABLE, value: None })
        })
    })
}
