//! Questions before what cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// Asks on the terminal; fails if there is nobody to ask, or if the answer is not `expected`. `what` says what is about to be
/// done, as the beginning of a sentence.
pub fn confirm(what: &str, question: &str, expected: &str) -> Result<(), Failure> {
    let refused = |message: String| Failure::Usage {
        message,
        remedy: "give --yes to do it without being asked".to_owned(),
    };
    let input = std::io::stdin();
    if !input.is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refused(format!(
            "{what} cannot be undone, and there is no terminal to ask on"
        )));
    }
    eprint!("{question} ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    match answer.trim() == expected {
        true => Ok(()),
        false => Err(refused("nothing was done".to_owned())),
    }
}
