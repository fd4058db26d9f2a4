//! `caplet caps`: what a person and a program read.

use std::process::{Command, Output};

fn caplet(words: &[&str]) -> (i32, String, String) {
    let out: Output = Command::new(env!("CARGO_BIN_EXE_caplet")).args(words).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (out.status.code().expect("a code"), text(out.stdout), text(out.stderr))
}

#[test]
fn the_table_has_every_capability_once_and_no_colours_in_a_pipe() {
    let (code, out, err) = caplet(&["caps"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let rows: Vec<&str> = out.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert_eq!(rows.len(), 41);
    assert!(
        rows.iter().any(|row| row.starts_with("SYS_TIME           nothing   no       -       settimeofday")),
        "{out}"
    );
    assert!(rows.iter().any(|row| row.starts_with("DAC_READ_SEARCH    partly    yes      -")), "{out}");
    assert!(!out.contains('\x1b'));
}

#[test]
fn names_are_dockers_and_unknown_ones_are_asked_back() {
    let wanted = caplet(&["caps", "NET_RAW", "CHOWN"]);
    for words in [&["caps", "cap_net_raw,Chown"][..], &["caps", "chown", "net_raw", "NET_RAW"]] {
        assert_eq!(caplet(words), wanted, "{words:?}");
    }
    assert_eq!(caplet(&["caps", "all"]).1.matches("  gates ").count(), 41);
    let (code, out, err) = caplet(&["caps", "NET_ADMN"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, "caplet: caps NET_ADMN: no such capability; did you mean NET_ADMIN?\n");
    assert_eq!(caplet(&["caps", "--jsn"]).0, 2);
}

#[test]
fn json_is_for_programs() {
    let (code, out, _) = caplet(&["caps", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let all = all.as_array().expect("a list");
    assert_eq!((code, all.len()), (0, 41));
    let docker = all.iter().filter(|row| row["docker"] == true).count();
    assert_eq!(docker, 14);
    let (_, out, _) = caplet(&["caps", "--json", "sys_admin"]);
    let one: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(one[0]["number"], 21);
    assert_eq!(one[0]["root_equivalent"], "yes");
    assert_eq!(one[0]["isolated"], "partial");
}
