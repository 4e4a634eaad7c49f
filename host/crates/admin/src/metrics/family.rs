//! What a table of metrics is made of, and how it is written.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// The families of things of one kind: a row for each thing, and in a split family for each part of it.
pub(super) struct Table<T: 'static> {
    /// The label that a thing's name stands under; none where there is one thing.
    pub label: Option<&'static str>,
    pub families: &'static [Family<T>],
    pub splits: &'static [Split<T>],
}

/// One value of each thing.
pub(super) struct Family<T> {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    pub(super) value: fn(&T) -> f64,
}

/// Several values of each thing, told apart by a label.
pub(super) struct Split<T> {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    by: &'static str,
    pub(super) values: fn(&T) -> Vec<(&str, f64)>,
}

pub(super) const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Family<T> {
    Family { kind: Kind::Counter, name, help, value }
}

pub(super) const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Family<T> {
    Family { kind: Kind::Gauge, name, help, value }
}

/// A counter or gauge in parts, told apart by the label `by`.
pub(super) const fn split<T>(
    kind: Kind,
    name: &'static str,
    by: &'static str,
    help: &'static str,
    values: fn(&T) -> Vec<(&str, f64)>,
) -> Split<T> {
    Split { kind, name, help, by, values }
}

impl<T> Table<T> {
    /// Writes all families, of things and their names.
    pub fn write<'a>(
        &self,
        to: &mut DescriptorEncoder<'_>,
        things: impl IntoIterator<Item = (&'a str, &'a T)> + Clone,
    ) -> fmt::Result {
        let named = |thing| self.label.map(|label| (label, thing));
        for Family { kind, name, help, value } in self.families {
            let mut family = head(to, *kind, name, help)?;
            for (thing, it) in things.clone() {
                let labels: Vec<_> = named(thing).into_iter().collect();
                row(&mut family, *kind, &labels, value(it))?;
            }
        }
        for Split { kind, name, help, by, values } in self.splits {
            let mut family = head(to, *kind, name, help)?;
            for (thing, it) in things.clone() {
                for (part, value) in values(it) {
                    let labels: Vec<_> = named(thing).into_iter().chain([(*by, part)]).collect();
                    row(&mut family, *kind, &labels, value)?;
                }
            }
        }
        Ok(())
    }
}

/// Begins a family.
pub(super) fn head<'a>(
    to: &'a mut DescriptorEncoder<'_>,
    kind: Kind,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    let kind = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    to.encode_descriptor(name, help, None, kind)
}

/// One row of a family.
pub(super) fn row(to: &mut MetricEncoder<'_>, kind: Kind, labels: &[(&str, &str)], value: f64) -> fmt::Result {
    let mut row = to.encode_family(&labels)?;
    match kind {
        Kind::Counter => row.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => row.encode_gauge(&value),
    }
}
