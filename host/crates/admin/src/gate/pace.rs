//! How many requests each caller may make: so many a second, and twice as many at once.
//!
//! Who shows no valid credentials shares one account with all who do not, so that a flood of them costs no holder of a token
//! anything, and no more memory than a single one.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// On whose account a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payer {
    /// Those who show nothing, or nothing that is known.
    Anybody,
    /// Those who show a certificate.
    Certificates,
    /// The holder of a token, by its number.
    Token(usize),
}

/// The accounts.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Vec<Account>>);

/// What may be taken so many times a second, and twice as many times at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    per_s: f64,
    left: f64,
    at: Instant,
}

impl Account {
    pub fn new(per_s: u32, now: Instant) -> Self {
        let per_s = f64::from(per_s);
        Self { per_s, left: per_s * 2.0, at: now }
    }

    /// Takes once; false if there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        let enough = self.gain(now);
        self.left -= f64::from(u8::from(enough));
        enough
    }

    /// Gains what time has brought; whether there is one left.
    fn gain(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_s;
        self.left = (self.left + gained).min(self.per_s * 2.0);
        self.at = now;
        self.left >= 1.0
    }
}

impl Pace {
    pub fn new(per_s: u32, tokens: usize, now: Instant) -> Self {
        Self(Mutex::new(vec![Account::new(per_s, now); tokens + 2]))
    }

    /// Whether there is one left, which stays.
    pub fn has(&self, payer: Payer, now: Instant) -> bool {
        self.with(payer, |account| account.gain(now))
    }

    /// Takes a request from the account; false if there is none left.
    pub fn take(&self, payer: Payer, now: Instant) -> bool {
        self.with(payer, |account| account.take(now))
    }

    fn with(&self, payer: Payer, enough: impl FnOnce(&mut Account) -> bool) -> bool {
        let number = match payer {
            Payer::Anybody => 0,
            Payer::Certificates => 1,
            Payer::Token(i) => i + 2,
        };
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.get_mut(number).is_some_and(enough)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Guarantees: a burst of twice the rate, then the rate; and one account says nothing about another.
    #[test]
    fn rate_and_burst() {
        let start = Instant::now();
        let pace = Pace::new(10, 1, start);
        let taken = |payer, at| (0..100).filter(|_| pace.take(payer, at)).count();
        assert_eq!(taken(Payer::Anybody, start), 20);
        assert_eq!(taken(Payer::Token(0), start), 20);
        assert_eq!(taken(Payer::Anybody, start + Duration::from_millis(500)), 5);
        assert_eq!(taken(Payer::Anybody, start + Duration::from_secs(100)), 20);
        assert!(!pace.has(Payer::Anybody, start + Duration::from_secs(100)));
        assert!((0..30).all(|_| pace.has(Payer::Anybody, start + Duration::from_secs(101))));
        assert_eq!(taken(Payer::Anybody, start + Duration::from_secs(101)), 10);
        assert_eq!(taken(Payer::Token(7), start), 0, "there is no such token");
    }
}
