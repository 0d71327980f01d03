//! What is written down, byte for byte.
