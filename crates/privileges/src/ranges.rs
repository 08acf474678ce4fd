//! Lists of CPUs and of memory nodes: `0-3,7`.

use std::fmt;

/// The mask of a list, without final words of zeroes; an empty text is an empty list. All numbers
/// must be below `limit`.
pub(crate) fn parse(list: &str, limit: usize) -> Result<Vec<u64>, String> {
    let mut mask = Vec::new();
    if list.is_empty() {
        return Ok(mask);
    }
    for entry in list.split(',') {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{list:?}: {entry:?} is neither a number nor a range"));
        };
        if first > last {
            return Err(format!("{list:?}: {entry:?} ends before it begins"));
        }
        if last >= limit {
            return Err(format!("{list:?}: {last} is above {}", limit - 1));
        }
        mask.resize(mask.len().max(last / 64 + 1), 0);
        for number in first..=last {
            if let Some(word) = mask.get_mut(number / 64) {
                *word |= 1 << (number % 64);
            }
        }
    }
    Ok(mask)
}

fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Displays a mask as a list.
pub(crate) struct List<'a>(pub(crate) &'a [u64]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_set = |number: &usize| {
            self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
        };
        let mut comma = "";
        let mut numbers = (0..self.0.len() * 64).filter(is_set).peekable();
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last == first {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_masks() {
        for (list, mask) in [
            ("", vec![]),
            ("0", vec![1]),
            ("0-3,7", vec![0b1000_1111]),
            ("63-64,0", vec![1 << 63 | 1, 1]),
            ("127", vec![0, 1 << 63]),
        ] {
            assert_eq!(parse(list, 128).unwrap(), mask, "{list}");
        }
    }

    #[test]
    fn faults_are_told() {
        for (list, fault) in [
            (",", r#"",": "" is neither"#),
            ("1,", r#""1,": "" is neither"#),
            ("1-", r#""1-": "1-" is neither"#),
            ("-1", r#""-1": "-1" is neither"#),
            ("+1", r#""+1": "+1" is neither"#),
            (" 1", r#"" 1": " 1" is neither"#),
            ("1-2-3", r#""1-2-3": "1-2-3" is neither"#),
            ("99999999999999999999", r#""99999999999999999999": "999"#),
            ("3-1", r#""3-1": "3-1" ends before it begins"#),
            ("0-128", r#""0-128": 128 is above 127"#),
        ] {
            let said = parse(list, 128).unwrap_err();
            assert!(said.starts_with(fault), "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(mask in proptest::collection::vec(any::<u64>(), 0..4)) {
            let mut expected = mask.clone();
            while expected.last() == Some(&0) {
                expected.pop();
            }
            prop_assert_eq!(parse(&List(&mask).to_string(), 256).unwrap(), expected);
        }
    }
}
