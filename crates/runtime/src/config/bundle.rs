//! The bundle: its directory and its config.json.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{input, parse};
use crate::error::{Error, Result, Within};

/// A bundle with a valid config.json.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory, absolute.
    pub directory: PathBuf,
    /// Its config.json.
    pub spec: Box<Spec>,
    /// Fields of the file that are unknown, and values that cannot be given.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `directory`; `config` replaces the path of its config.json.
    ///
    /// # Errors
    /// The file is missing, neither regular nor a pipe, or too large; or it is not a configuration,
    /// with the field at fault.
    pub fn load(directory: &Path, config: Option<&Path>) -> Result<Self> {
        let directory = davit_sys::path::canonical(directory)
            .within(|| format!("bundle {}", directory.display()))?;
        let path = match config {
            Some(config) => config.to_owned(),
            None => directory.join("config.json"),
        };
        let text = input::read(&path);
        // A directory in which config.json was found needs no further look.
        if (text.is_err() || config.is_some()) && !directory.is_dir() {
            return Err(Error::new(format!("bundle {}: not a directory", directory.display())));
        }
        let text = text.within(|| path.display().to_string())?;
        let (spec, warnings) = parse::config(&text).within(|| path.display().to_string())?;
        Ok(Self { directory, spec, warnings })
    }
}
