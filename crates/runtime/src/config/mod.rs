//! config.json, from the text to a configuration that can be planned, and the parts of it that
//! other commands read: `exec --process`, `update --resources`, `mounts`.

mod amend;
pub(crate) mod annotations;
mod blank;
pub(crate) mod bundle;
pub(crate) mod check;
mod duplicates;
pub(crate) mod file;
pub(crate) mod input;
pub(crate) mod json;
mod json_shape;
pub(crate) mod normalize;
pub(crate) mod parse;
pub(crate) mod process;
pub(crate) mod resources;
mod rootless;
mod schema;
