//! Plain directories, without a daemon around them.
