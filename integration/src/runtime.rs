//! Which runtime the tests are run against.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The runtime under test: `RUNTIME` from the environment.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// `davit`, `runc`, `crun`, or the file name of another binary.
    pub name: String,
    /// The binary.
    pub path: PathBuf,
}

/// The runtime that this test run is about.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| match std::env::var("RUNTIME").as_deref() {
        Ok("davit" | "") | Err(_) => Runtime { name: "davit".into(), path: davit() },
        Ok(path) if path.contains('/') => {
            let path = Path::new(path).canonicalize().expect("RUNTIME names a file");
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Runtime { name, path }
        }
        Ok(name) => Runtime { name: name.into(), path: in_path(name) },
    })
}

impl Runtime {
    /// Is it the one we write, and not another runtime?
    pub fn is_davit(&self) -> bool {
        self.name == "davit"
    }
}

/// `DAVIT`, or what `make` leaves at target/davit, or what cargo built beside this test.
fn davit() -> PathBuf {
    if let Some(path) = std::env::var_os("DAVIT") {
        return Path::new(&path).canonicalize().expect("DAVIT names a file");
    }
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/davit");
    let beside = std::env::current_exe()
        .ok()
        .and_then(|test| test.parent()?.parent().map(|dir| dir.join("davit")));
    [Some(made), beside]
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
        .map(|path| path.canonicalize().expect("canonical"))
        .expect("no davit to test: run `make` first, or set DAVIT or RUNTIME")
}

fn in_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("RUNTIME={name} is not installed"))
}
