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
    /// Probes and scrapes, so that nobody makes a host look dead.
    Probes,
    /// Those who show a certificate.
    Certificates,
    /// The holder of a token, by its number.
    Token(usize),
}

/// The accounts.
#[derive(Debug)]
pub(crate) struct Pace {
    per_s: f64,
    accounts: Mutex<Vec<Account>>,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    left: f64,
    at: Instant,
}

impl Pace {
    pub fn new(per_s: u32, tokens: usize, now: Instant) -> Self {
        let per_s = f64::from(per_s);
        Self { per_s, accounts: Mutex::new(vec![Account { left: per_s * 2.0, at: now }; tokens + 3]) }
    }

    /// Takes a request from the account; false if there is none left.
    pub fn take(&self, payer: Payer, now: Instant) -> bool {
        let number = match payer {
            Payer::Anybody => 0,
            Payer::Probes => 1,
            Payer::Certificates => 2,
            Payer::Token(i) => i + 3,
        };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(account) = accounts.get_mut(number) else { return false };
        let gained = now.saturating_duration_since(account.at).as_secs_f64() * self.per_s;
        account.left = (account.left + gained).min(self.per_s * 2.0);
        account.at = now;
        if account.left < 1.0 {
            return false;
        }
        account.left -= 1.0;
        true
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
        assert_eq!(taken(Payer::Token(7), start), 0, "there is no such token");
    }
}
