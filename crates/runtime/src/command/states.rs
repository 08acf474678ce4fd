//! `state` and `list`.

use crate::error::Result;
use crate::id::Id;
use crate::state::{ContainerDir, State, StateRoot};

/// Longer than the record of nearly every container.
const RECORD_BUFFER: usize = 16 << 10;

/// The state of one container.
///
/// # Errors
/// There is none; its record is damaged.
pub fn state(root: &StateRoot, id: &Id) -> Result<State> {
    State::of(&root.get(id)?.record()?)
}

fn state_of(dir: &ContainerDir) -> Result<State> {
    let record = dir.record().map_err(|error| match error.advice() {
        Some(_) => error,
        None => error.hint(format!("davit delete --force {} removes what is left of it", dir.id())),
    })?;
    State::of(&record)
}

/// The states of all containers, by id. A damaged record has an error in place of its state.
///
/// # Errors
/// The state root cannot be read, or belongs to another user.
pub fn list(root: &StateRoot) -> Result<Vec<(Id, Result<State>)>> {
    let mut buffer = vec![0; RECORD_BUFFER];
    let mut states = Vec::new();
    for id in root.ids()? {
        let is_started = || root.is_started(&id);
        let text = root.read_record(&id, &mut buffer);
        match text.and_then(|text| State::of_text(text, is_started)) {
            Some(state) => states.push((id, Ok(state))),
            // It is gone, or the error says what is wrong with it.
            None => {
                if let Some(dir) = root.find(&id).transpose() {
                    let state = dir.and_then(|dir| state_of(&dir));
                    states.push((id, state));
                }
            }
        }
    }
    Ok(states)
}
