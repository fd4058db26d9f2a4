//! The judgement of caplet. Data in, verdict out.
//!
//! Nothing in here makes a system call, reads a clock, asks NSS or uses `unsafe`: the setuid helper
//! and the unprivileged front end share this crate, and a test can hold every word of it.
//!
//! The way through: [`request::Request`] (what was asked) and [`document::Document`] (what the
//! administrator wrote) go into [`judge::judge`], which alone makes a [`judge::Grant`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod capability;
pub mod document;
pub mod escape;
pub mod handbook;
pub mod judge;
pub mod request;
pub mod seal;
pub mod subids;
pub mod syscalls;
