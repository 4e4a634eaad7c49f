//! Waiting for the host to move on.

use tidegate_model::{Phase, PhaseWatch};

/// The phase now. A host that has dropped its end is gone: that is [`Phase::Closed`].
pub(crate) fn now(watch: &PhaseWatch) -> Phase {
    if watch.has_changed().is_err() { Phase::Closed } else { *watch.borrow() }
}

/// Waits until the phase is at least `phase`. May be dropped and called again.
pub(crate) async fn reaches(watch: &mut PhaseWatch, phase: Phase) {
    // An error means that the host is gone, which is past every phase.
    let _gone = watch.wait_for(|now| *now >= phase).await.is_err();
}
