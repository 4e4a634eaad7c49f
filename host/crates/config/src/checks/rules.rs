//! `[rules]`: signatures that nobody could give are not asked for.

use super::Checker;
use crate::document::Place;
use crate::raw::RawRules;
use crate::settings::{Signatures, unhex};

/// Each is tried on each module.
const MOST_KEYS: usize = 100;

/// The key of RFC 8032, section 7.1, test 1, whose private half is printed there, so that anybody can sign with it.
const OF_THE_RFC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

impl Checker<'_> {
    pub(super) fn signatures(&mut self, place: &Place, raw: RawRules) -> Signatures {
        let required = raw.require_signatures.unwrap_or(false);
        let at = place.key("keys");
        if required && raw.keys.is_empty() {
            let todo = "make one with `tidegate rule keygen`, and write what it prints under [rules.keys]";
            self.error(&place.key("require_signatures"), "signatures are required, and no key is named", todo);
        }
        if raw.keys.len() > MOST_KEYS {
            let what = format!("there are {} keys", raw.keys.len());
            self.error(&at, what, format!("keep no more than {MOST_KEYS}"));
        }
        let mut keys = Vec::new();
        for (name, text) in raw.keys.into_iter().take(MOST_KEYS) {
            let place = at.key(&name);
            let name = self.name(&place, &name);
            if text.eq_ignore_ascii_case(OF_THE_RFC) {
                let todo = "make one with `tidegate rule keygen`";
                self.error(&place, "this is an example's key, whose private half everybody knows", todo);
            }
            match unhex(&text) {
                Some(key) => keys.push((name, key)),
                None => {
                    let todo = "write the public key as `tidegate rule keygen` prints it; the private one does not belong here";
                    self.error(&place, "this is no ed25519 public key in 64 hexadecimal digits", todo);
                }
            }
        }
        Signatures { required, keys }
    }
}
