//! Places for connections: so many in all, and to one address no more than its share.
//!
//! Without a share, one caller who opens connections and says nothing keeps everybody else out. This machine's own addresses have
//! none: behind a proxy or with the CLI, all callers are one address there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// No address has none.
    by_address: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a caller from there, if there is one.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let (address, share) = (network(from), self.most.div_ceil(2));
        let mut taken = self.lock();
        let its_own = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.all >= self.most || (its_own >= share && !address.is_loopback()) {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, its_own + 1);
        Some(Place { places: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(its_own) = taken.by_address.get_mut(&self.address) {
            *its_own -= 1;
            if *its_own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one caller: an IPv4 address, or the 64 bits of an IPv6 address by which networks are given out.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Guarantees: nobody has more than half of the places but this machine, nobody has any beyond all of them, and a place that is
    /// given back is free.
    #[test]
    fn shares() {
        let places = Places::new(4);
        let from = |text: &str| places.take(text.parse().unwrap());
        let held = [from("10.0.0.1").unwrap(), from("::ffff:10.0.0.1").unwrap()];
        assert!(from("10.0.0.1").is_none(), "half of them");
        let other = from("2001:db8::1").unwrap();
        let last = from("127.0.0.1").unwrap();
        assert!(from("127.0.0.1").is_none() && from("10.0.0.2").is_none(), "all of them");
        drop(held);
        let own = [from("127.0.0.1").unwrap(), from("127.0.0.1").unwrap()];
        drop((other, last, own));
        let network = [from("2001:db8::1").unwrap(), from("2001:db8::2").unwrap()];
        assert!(from("2001:db8::3").is_none(), "one network is one caller");
        drop(network);
        assert!(places.lock().by_address.is_empty() && places.lock().all == 0);
    }
}
