//! Microseconds since 1970 as people and other programs read them.

use std::fmt;

use serde::{Serialize, Serializer};

const US_PER_S: i64 = 1_000_000;
const S_PER_DAY: i64 = 86_400;

/// Microseconds since 1970-01-01 UTC, shown as RFC 3339 in UTC with six digits: `2023-12-23T00:00:00.000000Z`.
///
/// Years outside 0–9999, which RFC 3339 has no form for, are shown with their sign or all their digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub i64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, us) = (self.0.div_euclid(US_PER_S), self.0.rem_euclid(US_PER_S));
        let (days, second) = (seconds.div_euclid(S_PER_DAY), seconds.rem_euclid(S_PER_DAY));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar (Howard Hinnant's
/// `civil_from_days`: eras of 400 years, years beginning in March so that the leap day is the last).
fn civil(days: i64) -> (i64, i64, i64) {
    let from_era_0 = days + 719_468;
    let era = from_era_0.div_euclid(146_097);
    let day_of_era = from_era_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: known instants, leap days, times before 1970 and the ends of the range are shown right.
    #[test]
    fn known_instants() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_703_289_600_000_000, "2023-12-23T00:00:00.000000Z"),
            (1_709_208_000_000_001, "2024-02-29T12:00:00.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (i64::MAX, "294247-01-10T04:00:54.775807Z"),
        ];
        for (us, shown) in cases {
            assert_eq!(Rfc3339(us).to_string(), shown);
        }
    }
}
