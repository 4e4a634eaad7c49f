//! `[spool]`, the defaults of all sinks, and `[sinks.….spool]`, those of one.

use tidegate_model::SpoolOrder;

use super::Checker;
use crate::document::Place;
use crate::raw::{RawSpool, RawSpoolOrder, RawWhenFull};
use crate::settings::{SpoolSettings, WhenFull};

/// What the sinks that name no settings of their own get.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpoolDefaults {
    enabled: bool,
    settings: SpoolSettings,
}

/// Whether a sink's targets stand what `live_first` does to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Rows bear their time: any order will do.
    NoOrder,
    /// The same; and the target is a file, most often on the disk where its spool would be. When that is full, a spool would take the room
    /// that the file needs, so there is none unless the sink's own section asks for it.
    OwnDisk,
    /// What is acknowledged must be stored: there can be no spool.
    Transactions,
    /// Who listens takes the last for the newest.
    Order,
}

impl Checker<'_> {
    pub(super) fn spool_defaults(&mut self, place: &Place, raw: &RawSpool) -> SpoolDefaults {
        let standard = SpoolSettings { max_bytes: 1 << 30, when_full: WhenFull::HoldBack, order: SpoolOrder::Kept };
        let defaults = SpoolDefaults { enabled: true, settings: standard };
        SpoolDefaults {
            enabled: raw.enabled.unwrap_or(true),
            settings: self.spool_settings(place, raw, defaults.settings, Needs::NoOrder),
        }
    }

    /// The spool of the sink at `place`; none where it is switched off.
    pub(super) fn spool(
        &mut self,
        place: &Place,
        raw: Option<RawSpool>,
        defaults: SpoolDefaults,
        needs: Needs,
    ) -> Option<SpoolSettings> {
        if needs == Needs::Transactions {
            if raw.is_some_and(|raw| raw.enabled != Some(false)) {
                let what = "with exactly_once there can be no spool: what it acknowledges is not stored together with its offset";
                self.error(&place.key("spool"), what, "write enabled = false in it, or take `exactly_once` out");
            }
            return None;
        }
        let by_default = needs != Needs::OwnDisk || raw.is_some();
        let raw = raw.unwrap_or_default();
        let mut inherited = defaults.settings;
        if needs == Needs::Order {
            inherited.order = SpoolOrder::Kept;
        }
        let settings = self.spool_settings(&place.key("spool"), &raw, inherited, needs);
        raw.enabled.unwrap_or(by_default && defaults.enabled).then_some(settings)
    }

    fn spool_settings(
        &mut self,
        place: &Place,
        raw: &RawSpool,
        inherited: SpoolSettings,
        needs: Needs,
    ) -> SpoolSettings {
        let mib: u64 = self.number(place, "max_mib", raw.max_mib, inherited.max_bytes >> 20, 16..=1_048_576);
        let when_full = match raw.when_full {
            None => inherited.when_full,
            Some(RawWhenFull::HoldBack) => WhenFull::HoldBack,
            Some(RawWhenFull::DropOldest) => WhenFull::DropOldest,
        };
        let order = match raw.order {
            None => inherited.order,
            Some(RawSpoolOrder::Kept) => SpoolOrder::Kept,
            Some(RawSpoolOrder::LiveFirst) => SpoolOrder::LiveFirst,
        };
        if order == SpoolOrder::LiveFirst && needs == Needs::Order {
            self.error(
                &place.key("order"),
                "alerts and messages cannot be published out of order: an old `raised` after its `cleared` would stand for ever",
                "remove it, or write order = \"kept\"",
            );
        }
        SpoolSettings { max_bytes: mib << 20, when_full, order }
    }
}
