//! The capabilities of caplet-capabilities(7): each as `caplet caps NAME` has it.

use super::mdoc::{escape, paragraph};
use crate::handbook;
use caplet_policy::capability::CapSet;

/// All subsections.
pub fn part() -> String {
    let mut page = String::new();
    for cap in CapSet::KNOWN.iter() {
        page += &format!(".Ss {}\n.Bl -tag -width \"needed by\" -compact\n", escape(cap.name()));
        for (key, value) in handbook::facts(cap) {
            page += &format!(".It {key}\n{}", paragraph(&value));
        }
        page += ".El\n";
    }
    page
}
