//! What davit adds to an image of CRIU: `davit.json`, which is written last and so says that the
//! image is complete, and `descriptors.json`, which runc and crun have too.
//!
//! An image may come from another host: what is read of it is checked, as config.json is.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The file that makes an image complete.
pub const MARKER: &str = "davit.json";

/// The standard streams, as runc and crun write them.
pub const DESCRIPTORS: &str = "descriptors.json";

/// The format of [`Image`]. Members are only added, each with a default.
pub const FORMAT: u32 = 1;

/// What a restore must know of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The version of davit that wrote it.
    pub davit: String,
    /// The container's id.
    pub id: String,
    /// Whether it has the memory alone: it is then the parent of another image.
    #[serde(default)]
    pub pre_dump: bool,
    /// The mounts whose sources are outside.
    #[serde(default)]
    pub mounts: Vec<External>,
    /// Standard input, output and error.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// The namespaces that the container did not share with the host.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Those of them that config.json gave by path.
    #[serde(default)]
    pub joined: Vec<String>,
    /// `hostname` of config.json.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The size of each of CRIU's files, in bytes: CRIU waits for ever for the rest of one that is
    /// too short.
    #[serde(default)]
    pub sizes: BTreeMap<String, u64>,
}

/// Whether a file of this name is of the image, and not a log.
#[must_use]
pub fn is_of_image(name: &str) -> bool {
    name.ends_with(".img") && !name.contains('/')
}

/// A mount whose source is outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// The mount point in the container, without symbolic links: its name in the image.
    pub mountpoint: PathBuf,
    /// The `destination` of config.json, or the path of the device.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: ExternalKind,
}

/// What a mount from outside is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExternalKind {
    /// A bind mount of config.json, or a mount below its source; an overlay of config.json.
    Bind,
    /// A device node of the host with the same path.
    Device,
    /// A mount below the container's root on the host.
    Root,
    /// A hierarchy of cgroup v1.
    Cgroup,
}

/// A standard stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// What it was (proc(5), fd).
    pub link: String,
    /// Its name in the image, if the stream of the same number replaces it.
    #[serde(default)]
    pub key: Option<String>,
}

impl Image {
    /// Reads and checks the marker.
    ///
    /// # Errors
    /// It is damaged, or of another format; a name in it cannot be one.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::refused(MARKER, reason));
        let image: Self = match serde_json::from_slice(text) {
            Ok(image) => image,
            Err(error) => return refuse(format!("is damaged: {error}")),
        };
        if image.format != FORMAT {
            let (format, davit) = (image.format, &image.davit);
            return refuse(format!(
                "has format {format}, of davit {davit}; this one reads {FORMAT}"
            ));
        }
        for mount in &image.mounts {
            for path in [&mount.mountpoint, &mount.destination] {
                if !is_plain(path) {
                    return refuse(format!("{path:?} is not the path of a mount"));
                }
            }
        }
        if image.streams.len() > 3 || !image.streams.iter().all(Stream::is_plain) {
            return refuse("has invalid streams".to_owned());
        }
        if let Some(name) = image.sizes.keys().find(|name| !is_of_image(name)) {
            return refuse(format!("{name:?} is not the name of a file of CRIU"));
        }
        Ok(image)
    }

    /// The text of the marker.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|error| Error::refused(MARKER, error.to_string()))
    }

    /// The text of `descriptors.json`.
    ///
    /// # Errors
    /// None: strings can always be written.
    pub fn descriptors(&self) -> Result<Vec<u8>, Error> {
        let links: Vec<&str> = self.streams.iter().map(|stream| stream.link.as_str()).collect();
        serde_json::to_vec(&links).map_err(|error| Error::refused(DESCRIPTORS, error.to_string()))
    }
}

impl Stream {
    /// A pipe or a file from outside; nothing else is replaced.
    fn is_plain(&self) -> bool {
        let Some(key) = &self.key else { return true };
        let inside = |prefix: &str| key.strip_prefix(prefix)?.strip_suffix(']');
        let digits = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        };
        [inside("pipe:["), inside("file[")].into_iter().flatten().any(digits)
    }
}

/// An absolute path without `..`, and without the characters that CRIU gives a meaning.
fn is_plain(path: &Path) -> bool {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let text = path.as_os_str().as_encoded_bytes();
    path.is_absolute() && path.components().all(plain) && !text.iter().any(u8::is_ascii_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let external = External {
            mountpoint: "/data".into(),
            destination: "/data".into(),
            kind: ExternalKind::Bind,
        };
        let stream =
            |key: Option<&str>| Stream { link: "pipe:[7]".to_owned(), key: key.map(str::to_owned) };
        Image {
            format: FORMAT,
            davit: "0.2.0".to_owned(),
            id: "web".to_owned(),
            pre_dump: false,
            mounts: vec![external],
            streams: vec![stream(None), stream(Some("pipe:[7]")), stream(Some("file[1a:3]"))],
            namespaces: vec!["pid".to_owned()],
            joined: Vec::new(),
            hostname: Some("web".to_owned()),
            sizes: BTreeMap::from([("pages-1.img".to_owned(), 4096)]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = image().text().unwrap();
        assert_eq!(Image::parse(&text).unwrap(), image());
        assert_eq!(image().descriptors().unwrap(), br#"["pipe:[7]","pipe:[7]","pipe:[7]"]"#);
    }

    #[test]
    fn invalid_names_are_refused() {
        let refused = |edit: &dyn Fn(&mut Image)| {
            let mut image = image();
            edit(&mut image);
            Image::parse(&image.text().unwrap()).is_err()
        };
        assert!(refused(&|image| image.format = 2));
        for path in ["data", "/a/../b", "/a\nb", ""] {
            assert!(refused(&|image| image.mounts[0].mountpoint = path.into()), "{path:?}");
            assert!(refused(&|image| image.mounts[0].destination = path.into()), "{path:?}");
        }
        for key in ["", "x", "pipe:[]", "pipe:[7", "file[../x]", "extRootNetNS", "tty[1:2]"] {
            assert!(refused(&|image| image.streams[0].key = Some(key.to_owned())), "{key:?}");
        }
        assert!(refused(&|image| image.streams.push(image.streams[0].clone())));
        for name in ["", "x", "../pages-1.img", "/pages-1.img"] {
            assert!(
                refused(&|image| image.sizes = BTreeMap::from([(name.to_owned(), 0)])),
                "{name:?}"
            );
        }
        assert!(Image::parse(b"{").is_err());
    }
}
