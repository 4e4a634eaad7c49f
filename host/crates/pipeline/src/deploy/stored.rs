//! What an instance begins with where its state was kept on disk.

use tidegate_engine::{Cells, Instance, LoadError};
use tidegate_model::{KeptState, SavedState, StateBook};

use crate::lane::{Begins, Start};

/// Gives an instance what was stored, whichever versions that came from; where it has another form of its own, the store is to be told.
pub(super) fn as_stored(instance: &mut Instance, stored: Vec<KeptState>) -> Result<Begins, LoadError> {
    let version = instance.rule().module.description().version.clone();
    let foreign = stored.iter().any(|part| part.version != version);
    for part in &stored {
        let mut book = StateBook::default();
        book.take(part.cells.clone());
        instance.restore(&part.version, &book).map_err(LoadError::of_old_state)?;
    }
    let stored = whole(stored);
    if !foreign {
        return Ok(Begins::At(Box::new(Start { state: stored, differs: SavedState::default() })));
    }
    let mut state = StateBook::default();
    state.take(instance.save(Cells::All)?);
    Ok(Begins::At(Box::new(Start { differs: stored.succeeded_by(&state), state })))
}

/// A start without what is stored.
pub(super) fn without(stored: Vec<KeptState>) -> Box<Start> {
    let differs = whole(stored).succeeded_by(&StateBook::default());
    Box::new(Start { state: StateBook::default(), differs })
}

fn whole(stored: Vec<KeptState>) -> StateBook {
    let mut whole = StateBook::default();
    stored.into_iter().for_each(|part| whole.take(part.cells));
    whole
}
