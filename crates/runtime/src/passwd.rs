//! Users of /etc/passwd (passwd(5)). A static program cannot ask other name services.

use std::sync::OnceLock;

/// A line of the file.
pub(crate) struct User<'a> {
    /// The login name.
    pub(crate) name: &'a str,
    /// The home directory.
    pub(crate) home: &'a str,
}

/// The users with this uid in the text of a passwd file, in its order.
pub(crate) fn users(text: &str, uid: u32) -> impl Iterator<Item = User<'_>> {
    text.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let is_theirs = fields.nth(1)?.parse() == Ok(uid);
        is_theirs.then(|| User { name, home: fields.nth(2).unwrap_or_default() })
    })
}

/// The host's name of a user.
pub(crate) fn name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    users(&text, uid).next().map(|user| user.name.to_owned())
}

/// The host's name of the owner of a container, or the uid where it has none.
pub(crate) fn owner_name(uid: u32) -> String {
    let look_up = || name(uid).unwrap_or_else(|| uid.to_string());
    // The containers below one state root nearly always have one owner.
    static FIRST: OnceLock<(u32, String)> = OnceLock::new();
    match FIRST.get_or_init(|| (uid, look_up())) {
        (first, name) if *first == uid => name.clone(),
        _ => look_up(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_home_is_a_user_and_a_short_line_is_not() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbob:x:7\nbroken\nalias:x:7:7::/home/a:\n";
        let found = |uid| users(text, uid).map(|user| (user.name, user.home)).collect::<Vec<_>>();
        assert_eq!(found(0), [("root", "/root")]);
        assert_eq!(found(7), [("bob", ""), ("alias", "/home/a")]);
        assert!(found(1).is_empty());
    }
}
