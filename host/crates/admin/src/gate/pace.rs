//! How many requests each caller may make: so many a second, and twice as many at once.
//!
//! Who shows no valid credentials shares one account with all who do not, so that a flood of them costs no holder of a token
//! anything, and no more memory than a single one. Certificates have one each, by their digests: how many there are nobody knows beforehand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The most certificates with an account each, of those that have asked for something lately; what others ask for beside them is on one account.
const MOST_CERTIFICATES: usize = 1024;

/// On whose account a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payer {
    /// Those who show nothing, or nothing that is known.
    Anybody,
    /// Who shows this certificate, by its digest.
    Certificate(String),
    /// The holder of a token, by its number.
    Token(usize),
}

/// The accounts.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Accounts>);

#[derive(Debug)]
struct Accounts {
    /// As every account begins.
    new: Account,
    anybody: Account,
    tokens: Vec<Account>,
    certificates: HashMap<String, Account>,
    other_certificates: Account,
}

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

    /// Whether all is there that may be taken at once.
    fn is_full(&mut self, now: Instant) -> bool {
        self.gain(now);
        self.left >= self.per_s * 2.0
    }
}

impl Pace {
    pub fn new(per_s: u32, tokens: usize, now: Instant) -> Self {
        let new = Account::new(per_s, now);
        let tokens = vec![new; tokens];
        let certificates = HashMap::new();
        Self(Mutex::new(Accounts { new, anybody: new, tokens, certificates, other_certificates: new }))
    }

    /// Whether there is one left, which stays.
    pub fn has(&self, payer: &Payer, now: Instant) -> bool {
        self.with(payer, now, |account| account.gain(now))
    }

    /// Takes a request from the account; false if there is none left.
    pub fn take(&self, payer: &Payer, now: Instant) -> bool {
        self.with(payer, now, |account| account.take(now))
    }

    fn with(&self, payer: &Payer, now: Instant, enough: impl FnOnce(&mut Account) -> bool) -> bool {
        let accounts = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let account = match payer {
            Payer::Anybody => Some(&mut accounts.anybody),
            Payer::Certificate(digest) => Some(accounts.of_certificate(digest, now)),
            Payer::Token(number) => accounts.tokens.get_mut(*number),
        };
        account.is_some_and(enough)
    }
}

impl Accounts {
    fn of_certificate(&mut self, digest: &str, now: Instant) -> &mut Account {
        if !self.certificates.contains_key(digest) {
            if self.certificates.len() >= MOST_CERTIFICATES {
                // One that is full again says as much as a new one.
                self.certificates.retain(|_, account| !account.is_full(now));
            }
            if self.certificates.len() >= MOST_CERTIFICATES {
                return &mut self.other_certificates;
            }
        }
        self.certificates.entry(digest.to_owned()).or_insert(Account { at: now, ..self.new })
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
        let taken = |payer, at| (0..100).filter(|_| pace.take(&payer, at)).count();
        assert_eq!(taken(Payer::Anybody, start), 20);
        assert_eq!(taken(Payer::Token(0), start), 20);
        assert_eq!(taken(Payer::Anybody, start + Duration::from_millis(500)), 5);
        assert_eq!(taken(Payer::Anybody, start + Duration::from_secs(100)), 20);
        assert!(!pace.has(&Payer::Anybody, start + Duration::from_secs(100)));
        assert!((0..30).all(|_| pace.has(&Payer::Anybody, start + Duration::from_secs(101))));
        assert_eq!(taken(Payer::Anybody, start + Duration::from_secs(101)), 10);
        assert_eq!(taken(Payer::Token(7), start), 0, "there is no such token");
    }

    /// Guarantees: each certificate has an account of its own, as many as there may be; those beyond share one, until others have been still for long enough.
    #[test]
    fn certificates() {
        let start = Instant::now();
        let pace = Pace::new(10, 0, start);
        let taken = |number: usize, at| {
            let payer = Payer::Certificate(number.to_string());
            (0..30).filter(|_| pace.take(&payer, at)).count()
        };
        assert!((0..MOST_CERTIFICATES).all(|number| taken(number, start) == 20));
        assert_eq!(
            [taken(7, start), taken(MOST_CERTIFICATES, start), taken(MOST_CERTIFICATES + 1, start)],
            [0, 20, 0]
        );
        let soon = start + Duration::from_secs(1);
        assert_eq!([taken(7, soon), taken(MOST_CERTIFICATES, soon), taken(MOST_CERTIFICATES + 1, soon)], [10, 10, 0]);
        let later = start + Duration::from_secs(2);
        assert_eq!(
            [taken(MOST_CERTIFICATES, later), taken(MOST_CERTIFICATES + 1, later), taken(7, later)],
            [20, 20, 10]
        );
        assert_eq!(pace.0.lock().unwrap_or_else(PoisonError::into_inner).certificates.len(), 3);
    }
}
