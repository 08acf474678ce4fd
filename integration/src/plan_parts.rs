//! The parts of the file `plan` in a container's state directory (docs/state.md).

use std::fs;
use std::path::Path;

const END: &[u8] = b"davit1\0\n";

/// The parts: their names and contents.
pub type Parts = Vec<(String, Vec<u8>)>;

/// Reads the file.
#[track_caller]
pub fn read(path: &Path) -> Parts {
    let bytes = fs::read(path).expect("plan");
    let number = |bytes: &[u8]| {
        usize::try_from(u64::from_le_bytes(bytes.try_into().expect("8 bytes"))).expect("a length")
    };
    let rest = bytes.strip_suffix(END).expect("the end of a plan");
    let (rest, count) = rest.split_at(rest.len() - 8);
    let (mut content, table) = rest.split_at(rest.len() - 16 * number(count));
    let mut parts = Vec::new();
    for entry in table.chunks(16) {
        let name = String::from_utf8_lossy(&entry[..8]).trim_end_matches('\0').to_owned();
        let (part, others) = content.split_at(number(&entry[8..]));
        content = others;
        parts.push((name, part.to_vec()));
    }
    parts
}

/// Writes the file.
#[track_caller]
pub fn write(path: &Path, parts: &Parts) {
    let mut bytes: Vec<u8> = parts.iter().flat_map(|(_, content)| content.clone()).collect();
    for (name, content) in parts {
        let mut filled = name.clone().into_bytes();
        filled.resize(8, 0);
        bytes.extend(filled);
        bytes.extend((content.len() as u64).to_le_bytes());
    }
    bytes.extend((parts.len() as u64).to_le_bytes());
    bytes.extend(END);
    fs::write(path, bytes).expect("write");
}
