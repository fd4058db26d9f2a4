//! How slow the machine is that the tests run on: the one place that stretches their patience.

use std::sync::OnceLock;
use std::time::Duration;

/// A time that a test gives to something, on this machine: `CAPLET_LAB_SLOW` times as long (a whole number, default 1).
/// An emulated processor is about ten times slower than a real one.
///
/// # Panics
/// Where the variable is no number from 1 to 100.
pub fn patience(limit: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    limit
        * *FACTOR.get_or_init(|| {
            let text = std::env::var("CAPLET_LAB_SLOW").unwrap_or_else(|_| "1".to_owned());
            let factor = text.parse().ok().filter(|factor| (1..=100).contains(factor));
            factor.unwrap_or_else(|| panic!("CAPLET_LAB_SLOW is a number from 1 to 100, and not {text:?}"))
        })
}
