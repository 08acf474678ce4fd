//! `state` and `list`.

use crate::error::Result;
use crate::id::Id;
use crate::record::Root;
use crate::state::State;

/// The state of one container.
///
/// # Errors
/// There is none; its record is damaged.
pub fn state(root: &Root, id: &Id) -> Result<State> {
    State::of(&root.get(id)?.record()?)
}

/// The states of all containers, by id. A damaged record has no state, but it is there.
///
/// # Errors
/// The directory cannot be read.
pub fn list(root: &Root) -> Result<Vec<(Id, Result<State>)>> {
    root.states()
}
