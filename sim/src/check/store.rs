//! The store of a member that ended: every page is in its place, and what is in it is what was published.

use engine::state::{State, StateOptions};

use super::agreement::{Agreement, summary};
use super::{Violation, content};
use crate::disk::SimDisk;
use crate::member;

/// Looks at a directory whose member ended with this state, as [`summary`] tells it.
///
/// # Errors
/// The file is damaged, or holds another state.
pub fn check(
    no: usize,
    mut disk: SimDisk,
    state: &str,
    agreement: &mut Agreement,
) -> Result<(), Violation> {
    let broken = |why: &dyn std::fmt::Display| format!("store: member {no}: {why}");
    let (pages, len) = disk.open_store();
    engine::store::check(&*pages, len).map_err(|e| broken(&e))?;
    let store = member::open_store(pages, len).map_err(|e| broken(&e))?;
    let store = store.ok_or_else(|| broken(&"there is none"))?;
    let restored = State::restore(StateOptions::default(), store, &mut |_| {});
    let restored = restored.map_err(|e| broken(&e))?;
    let view = restored.state.view();
    content::check(&view, &agreement.published).map_err(|e| broken(&e))?;
    agreement.on_view(no, 2, &view)?;
    let found = summary(view.applied_index().0, &view);
    match found == state {
        true => Ok(()),
        false => Err(broken(&format!("it holds {found}, the state was {state}"))),
    }
}
