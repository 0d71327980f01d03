//! How the process ends: one code per thing that its owner can do something about. Stable; docs/operations/configuration.md
//! has the table.

use std::process::ExitCode;

macro_rules! exits {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal, $meaning:literal;)*) => {
        /// The process's exit status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Exit {
            $($(#[doc = $doc])* $variant = $code,)*
        }

        impl Exit {
            /// Every exit status.
            pub const ALL: &[Exit] = &[$(Exit::$variant,)*];

            /// What it means, as the documentation says it.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Exit::$variant => $meaning,)*
                }
            }
        }
    };
}

exits! {
    /// Stopped in order.
    Success = 0, "stopped in order after SIGTERM or SIGINT, everything durable";
    /// A fault of Cairn.
    Internal = 1, "a fault of Cairn itself: please report it";
    /// The configuration or the command line.
    Configuration = 2, "the configuration file or the command line is wrong";
    /// The data directory.
    DataDirectory = 3, "the data directory cannot be used: not a directory, no permission, something else in it, damaged";
    /// Another daemon.
    Locked = 4, "another cairnd uses the data directory";
    /// Written by a later version.
    NewerFormat = 5, "a later version of cairnd wrote the data directory";
    /// An address or socket path.
    Address = 6, "an address or socket path cannot be bound";
    /// The stores.
    Storage = 7, "the stores in the data directory cannot be opened or could not be closed in order";
    /// The second signal.
    Interrupted = 8, "a second signal ended the shutdown early: what was acknowledged as durable is safe";
}

impl Exit {
    /// The numeric status.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_documentation_has_the_table() {
        let table: String = Exit::ALL
            .iter()
            .map(|exit| format!("| {} | {} |\n", exit.code(), exit.meaning()))
            .collect();
        let page = include_str!("../../docs/operations/configuration.md");
        assert!(
            page.contains(&table),
            "docs/operations/configuration.md must contain:\n{table}"
        );
    }
}
