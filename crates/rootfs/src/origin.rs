//! The field of config.json that an operation comes from. Only errors and `davit explain` show it,
//! so it is formatted on demand: formatting it for each operation took a sixth of all instructions
//! of `davit run`.

use std::fmt;

/// A field of config.json, such as `mounts[3].options[1]`.
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

/// The value of a [`Field`], in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// The field is enough.
    #[default]
    Nothing,
    /// A path.
    Path(String),
    /// Source and destination.
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

/// The origin of an operation: `mounts[6] "/srv/data" -> "/data"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The field.
    pub field: Field,
    /// Its value.
    pub subject: Subject,
}

impl Origin {
    /// The path, if the subject is one.
    pub(crate) const fn path(&self) -> Option<&String> {
        match &self.subject {
            Subject::Path(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Nothing => self.field.fmt(f),
            subject => write!(f, "{} {subject}", self.field),
        }
    }
}
