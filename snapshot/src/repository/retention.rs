//! Retention in a repository: the decision is `cairn_types::retention`; what it has to know of a repository is gathered in [`facts`].

pub mod facts;

pub use cairn_types::retention::{
    Decision, Facts, Period, Policy, Protection, Reason, Verdict, decide, fits,
};
