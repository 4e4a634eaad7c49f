//! What serves by a signed manifest: from then on nothing older of its name is taken.

use crate::registry::Registry;
use crate::rule::Rule;
use crate::signature::{Manifest, Signed};

impl Registry {
    /// `rule` serves, and `manifest` stands beside its module.
    pub(super) fn note_signature(&self, rule: &Rule, manifest: Option<&[u8]>) {
        let trust = self.scanner.trust();
        let Ok(Some(signed)) = trust.check(rule.module.sha256(), manifest) else { return };
        if let Err(error) = trust.serves(&signed) {
            tracing::error!("after a restart, an older version of {} would be taken again: {error}", signed.name);
        }
        for other in self.overtaken_by(&signed) {
            tracing::warn!(
                rule = other,
                "it serves an older version of {} than rule {} does, {}: it goes on, but will not be loaded again",
                signed.name,
                rule.name,
                signed.version
            );
        }
    }

    /// The rules that serve an older version of the same.
    fn overtaken_by<'a>(&'a self, signed: &'a Signed) -> impl Iterator<Item = &'a str> {
        self.rules.iter().filter_map(move |(rule, known)| {
            let manifest = Manifest::read(known.wanted.manifest.as_deref()?).ok()?;
            let older = manifest.version.cmp_precedence(&signed.version).is_lt();
            (known.serving.is_some() && older && manifest.name == signed.name).then_some(rule.as_str())
        })
    }
}
