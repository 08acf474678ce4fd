//! The commands, one file each: from checked arguments to what happened.

mod create;
mod delete;
mod exec;
mod explain;
mod kill;
mod start;
mod states;

pub use create::{CreateRequest, Created, create, start_at_once};
pub use delete::delete;
pub use exec::{ExecRequest, Executed, ProcessChanges, exec};
pub use explain::{Explanation, explain};
pub use kill::kill;
pub use start::start;
pub use states::{list, state};
