//! The protocol as clients see it: against a file system in memory, over TCP or an in-memory stream.

#[cfg(test)]
mod duplicates;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod support;
