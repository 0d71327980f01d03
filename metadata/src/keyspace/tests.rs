//! Golden bytes of every key and value.
