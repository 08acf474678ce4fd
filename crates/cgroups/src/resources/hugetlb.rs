//! `linux.resources.hugepageLimits`.

use oci_spec::runtime::LinuxHugepageLimit;

use super::{Plan, Version};
use crate::{Error, IfMissing};

/// Limits pages in use and (Linux 5.7) reserved pages: with the latter the mapping fails, instead
/// of the process being killed when it touches a page.
pub(super) fn plan(plan: &mut Plan<'_>, limits: &[LinuxHugepageLimit]) -> Result<(), Error> {
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{index}]");
        let size = limit.page_size();
        if !is_page_size(size) {
            let reason = format!("{size:?} is not a page size such as 64KB, 2MB, 1GB");
            return Err(Error::value(format!("{field}.pageSize"), reason));
        }
        if limit.limit() < 0 {
            return Err(Error::value(format!("{field}.limit"), "must be a number of bytes"));
        }
        let dir = plan.dir("hugetlb", "hugetlb", field.clone().into())?;
        let file = match dir.version {
            Version::V1 => "limit_in_bytes",
            Version::V2 => "max",
        };
        let reserved = format!("hugetlb.{size}.rsvd.{file}");
        let values = vec![limit.limit().to_string()];
        plan.write(&dir, &format!("hugetlb.{size}.{file}"), limit.limit(), field.clone().into());
        plan.write_or(&dir, &reserved, values, IfMissing::Ignore, field.into());
    }
    Ok(())
}

/// `<size><unit-prefix>B`, as the kernel names its files.
fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|number| {
        !number.is_empty()
            && !number.starts_with('0')
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::is_page_size;

    #[test]
    fn page_sizes() {
        assert!(["64KB", "2MB", "16MB", "1GB"].into_iter().all(is_page_size));
        let bad = ["", "MB", "2M", "2mb", "02MB", "0MB", "2 MB", "-2MB", "../2MB", "2MB/x", "2TB"];
        assert!(!bad.into_iter().any(is_page_size));
    }
}
