//! Which entries a partial walk takes.

use crate::directory::path::RelativePath;

/// The paths that are taken with everything below. Sorted; none is within another.
#[derive(Debug, Clone)]
pub(super) struct Include(Vec<RelativePath>);

/// How a path stands to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// Taken, with everything below.
    Inside,
    /// A directory on the way to one.
    Above,
    /// Neither.
    Outside,
}

impl Include {
    pub(super) fn new(mut paths: Vec<RelativePath>) -> Include {
        paths.sort_unstable();
        // What is below a path comes right behind it.
        paths.dedup_by(|later, earlier| later.is_within(earlier));
        Include(paths)
    }

    pub(super) fn stand(&self, path: &RelativePath) -> Stand {
        let next = self.0.partition_point(|included| included <= path);
        if next > 0 && path.is_within(&self.0[next - 1]) {
            return Stand::Inside;
        }
        match self.0.get(next) {
            Some(included) if included.is_within(path) => Stand::Above,
            _ => Stand::Outside,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Include, Stand};
    use crate::directory::path::RelativePath;

    #[test]
    fn only_what_is_named_and_the_way_there() {
        let path = |text: &str| RelativePath::new(text.as_bytes()).unwrap();
        let include = Include::new(["b/c/d", "a", "a/x", "b/c", "e.f"].map(path).to_vec());
        for (text, stand) in [
            ("", Stand::Above),
            ("a", Stand::Inside),
            ("a/y/z", Stand::Inside),
            ("a b", Stand::Outside),
            ("b", Stand::Above),
            ("b/c", Stand::Inside),
            ("b/c/e", Stand::Inside),
            ("b/d", Stand::Outside),
            ("e", Stand::Outside),
            ("e.f", Stand::Inside),
        ] {
            assert_eq!(include.stand(&path(text)), stand, "{text}");
        }
        assert_eq!(Include::new(vec![path("")]).stand(&path("a/b")), Stand::Inside);
        assert_eq!(Include::new(vec![]).stand(&path("")), Stand::Outside);
    }
}
