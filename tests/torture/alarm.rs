//! Whatever fails in a thread of this process fails the run: none of them may end in silence and make it a smaller one.

use std::sync::{Mutex, Once, PoisonError};

static RAISED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on every panic, of whatever thread or task, is kept for [`check`].
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            raise(panic.to_string());
            usual(panic);
        }));
    });
}

/// Something has gone wrong where nobody can be told: in a callback of a C library, say.
pub fn raise(what: String) {
    RAISED.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

/// What has gone wrong so far.
pub fn raised() -> Vec<String> {
    RAISED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Fails if anything has gone wrong anywhere.
pub fn check() {
    let raised = raised();
    assert!(raised.is_empty(), "the run is worth nothing, for a part of it has failed: {raised:#?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a panic of a thread that nobody waits for, and one of a task, are not missed.
    #[test]
    fn panics_elsewhere_are_heard() {
        install();
        let thread = std::thread::spawn(|| panic!("a thread of the alarm's test"));
        assert!(thread.join().is_err());
        let task = tidegate_tests::runtime().spawn(async { panic!("a task of the alarm's test") });
        assert!(tidegate_tests::runtime().block_on(task).is_err());
        let heard = |what: &str| raised().iter().any(|raised| raised.contains(what));
        assert!(heard("a thread of the alarm's test") && heard("a task of the alarm's test"));
    }
}
