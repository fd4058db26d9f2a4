//! The processes around a command: the relay (the user's, in the caller's place), the guard (root's, without
//! power), the watcher (root's, asleep), PID 1 of an isolated session, and the words between them.

pub mod guard;
pub mod init;
pub mod relay;
pub mod terminal;
pub mod watcher;
pub mod wire;
