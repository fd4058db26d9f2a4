//! Which records are missing: the helper counts them within each boot, so that a log that was flooded or cut shows it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The numbers seen, by boot.
#[derive(Debug, Default)]
pub struct Numbers(BTreeMap<Vec<u8>, Vec<u64>>);

/// Numbers that nobody saw between some that were seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Gap {
    pub boot: String,
    pub numbers: RangeInclusive<u64>,
}

impl Numbers {
    /// Takes `seq=BOOT.N` of a record that is believed.
    pub fn take(&mut self, text: &[u8]) {
        let Some(at) = text.iter().rposition(|b| *b == b'.') else { return };
        let number = std::str::from_utf8(&text[at + 1..]).ok().and_then(|text| text.parse().ok());
        if let Some(number) = number {
            self.0.entry(text[..at].to_vec()).or_default().push(number);
        }
    }

    /// What is missing. Records come a little out of order, and before the first one seen nothing is known.
    pub fn gaps(mut self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (boot, numbers) in &mut self.0 {
            numbers.sort_unstable();
            for pair in numbers.windows(2) {
                if pair[1] - pair[0] > 1 {
                    let boot = String::from_utf8_lossy(boot).into_owned();
                    gaps.push(Gap { boot, numbers: pair[0] + 1..=pair[1] - 1 });
                }
            }
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(seen: &[&str]) -> Vec<Gap> {
        let mut numbers = Numbers::default();
        seen.iter().for_each(|text| numbers.take(text.as_bytes()));
        numbers.gaps()
    }

    #[test]
    fn order_repeats_and_other_boots_are_no_gaps() {
        assert_eq!(gaps(&["a.5", "a.7", "a.6", "b.1", "a.6", "b.2", "nonsense", "b.x"]), []);
        let missing = |boot: &str, numbers| Gap { boot: boot.into(), numbers };
        assert_eq!(gaps(&["a.1", "a.2", "a.9", "b.3", "b.5"]), [missing("a", 3..=8), missing("b", 4..=4)]);
    }
}
