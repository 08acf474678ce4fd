//! Where an operation comes from. Only errors and `davit explain` say it, so it is spelt out when
//! somebody reads it: spelling it for each operation was a sixth of all that `davit run` executed.

use std::fmt;

/// A place in config.json, such as `mounts[3].options[1]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    name: &'static str,
    index: Option<usize>,
    member: &'static str,
    member_index: Option<usize>,
}

impl Field {
    /// An entry of a list.
    pub(crate) const fn entry(list: &'static str, index: usize) -> Self {
        Self { name: list, index: Some(index), member: "", member_index: None }
    }

    /// A member of this object.
    pub(crate) const fn member(self, member: &'static str) -> Self {
        Self { member, ..self }
    }

    /// One of the options of this mount.
    pub(crate) const fn option(self, index: usize) -> Self {
        Self { member: "options", member_index: Some(index), ..self }
    }
}

impl From<&'static str> for Field {
    fn from(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

impl From<Field> for String {
    fn from(field: Field) -> Self {
        field.to_string()
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = |f: &mut fmt::Formatter<'_>, index: Option<usize>| {
            index.map_or(Ok(()), |index| write!(f, "[{index}]"))
        };
        f.write_str(self.name)?;
        index(f, self.index)?;
        if !self.member.is_empty() {
            write!(f, ".{}", self.member)?;
        }
        index(f, self.member_index)
    }
}

/// What stands in a [`Field`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// The field says it all.
    #[default]
    Nothing,
    /// A path.
    Path(String),
    /// A source and where it goes to.
    Onto(String, String),
    /// Directories, topmost first.
    Layers(Vec<String>),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Path(path) => write!(f, "{path:?}"),
            Self::Onto(source, destination) => write!(f, "{source:?} -> {destination:?}"),
            Self::Layers(layers) => {
                for (index, layer) in layers.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " over " })?;
                    write!(f, "{layer:?}")?;
                }
                Ok(())
            }
        }
    }
}

/// Where an operation comes from: `mounts[6] "/srv/data" -> "/data"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The field.
    pub field: Field,
    /// What is in it.
    pub subject: Subject,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Nothing => self.field.fmt(f),
            subject => write!(f, "{} {subject}", self.field),
        }
    }
}
