//! Errors for people.

use std::error::Error;

/// An error with its causes, outermost first, in one line. A layer that only repeats the one below is told once.
pub fn with_causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let layer = error.to_string();
        if !told.ends_with(&layer) {
            told.push_str(": ");
            told.push_str(&layer);
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::with_causes;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn layers_are_told_from_the_outside_in_and_once() {
        let inner = Layer("no such file", None);
        let repeats = Layer("cannot open a: no such file", Some(Box::new(inner)));
        let outer = Layer("the list cannot be read", Some(Box::new(repeats)));
        assert_eq!(
            with_causes(&outer),
            "the list cannot be read: cannot open a: no such file"
        );
        assert_eq!(with_causes(&Layer("alone", None)), "alone");
    }
}
