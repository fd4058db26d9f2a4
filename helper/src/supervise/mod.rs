//! The processes around a command: the relay (the user's, in the caller's place), the guard (root's, without
//! power), PID 1 of an isolated session, and the words between them.

pub mod guard;
pub mod init;
pub mod relay;
pub mod terminal;
pub mod wire;
