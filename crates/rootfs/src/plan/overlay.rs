//! Overlays in `mounts`.

use super::entry::MountEntry;
use super::fs_options::{propagation_change, setting, superblock_settings};
use super::{Planner, string};
use crate::Error;
use crate::op::{Action, FsOption, Layer, Overlay};
use crate::options::split_data;
use crate::origin::Field;

impl<'a> Planner<'a> {
    pub(super) fn overlay(&mut self, entry: &MountEntry<'a>) -> Result<(), Error> {
        entry.refuse_mount2_options()?;
        let mut attributes = entry.options.single();
        self.make_read_only_later(entry, &mut attributes)?;
        let mut settings = superblock_settings(entry, attributes)?;
        let mut layers = Vec::new();
        for (index, option) in &entry.options.data {
            let field = entry.field.option(*index);
            for part in split_data(option) {
                match part.split_once('=') {
                    Some(("lowerdir", paths)) => layers = split_lower(field, paths)?,
                    Some(("lowerdir+", path)) => layers.push(layer(field, path, false)?),
                    Some(("datadir+", path)) => layers.push(layer(field, path, true)?),
                    _ => settings.push(setting(field, part)?),
                }
            }
        }
        if layers.is_empty() {
            return Err(Error::missing(entry.field.member("options: lowerdir")));
        }
        self.add_userxattr(entry, &mut settings)?;
        settings.extend(self.context(entry.fstype, &settings)?);
        let overlay =
            Overlay { source: entry.source_name()?, layers, settings, attributes: attributes.set };
        let changes = propagation_change(&entry.options);
        let action = Action::Overlay { overlay, target: entry.target()?, changes };
        self.build.push(entry.op(action));
        Ok(())
    }

    fn add_userxattr(
        &self,
        entry: &MountEntry<'a>,
        settings: &mut Vec<FsOption>,
    ) -> Result<(), Error> {
        let flag = FsOption::Flag(string(entry.field, "userxattr")?);
        if self.host.user_namespace && !settings.contains(&flag) {
            settings.push(flag);
        }
        Ok(())
    }
}

fn layer(field: Field, path: &str, data_only: bool) -> Result<Layer, Error> {
    if path.is_empty() {
        return Err(Error::invalid(field, path, "has an empty directory name"));
    }
    Ok(Layer { path: string(field, path)?, data_only })
}

/// `a:b\:c::d` is the layers `a` and `b:c`, then the data-only layer `d` (overlayfs.rst).
fn split_lower(field: Field, text: &str) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    let (mut name, mut data_only, mut separators) = (String::new(), false, 0);
    let mut rest = text.chars();
    while let Some(first) = rest.next() {
        if first == ':' {
            separators += 1;
            if separators == 1 {
                layers.push(layer(field, &name, data_only)?);
                name.clear();
            } else {
                data_only = true;
            }
            continue;
        }
        separators = 0;
        name.push(if first == '\\' { rest.next().unwrap_or('\\') } else { first });
    }
    layers.push(layer(field, &name, data_only)?);
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_directories_are_split_as_overlayfs_does() {
        let split = |text| {
            let layers = split_lower("f".into(), text).unwrap();
            let show = |layer: Layer| (layer.path.into_string().unwrap(), layer.data_only);
            layers.into_iter().map(show).collect::<Vec<_>>()
        };
        let name = |text: &str, data| (text.to_owned(), data);
        assert_eq!(split("/a"), [name("/a", false)]);
        assert_eq!(split(r"/a:/b\:c\\d\,e"), [name("/a", false), name(r"/b:c\d,e", false)]);
        assert_eq!(split("/a::/d::/e"), [name("/a", false), name("/d", true), name("/e", true)]);
        assert!(split_lower("f".into(), "").is_err());
        assert!(split_lower("f".into(), "/a:").is_err());
    }
}
