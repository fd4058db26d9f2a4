//! `caplet check`: a policy read as the helper would read it, every fault at once, and what is risky in it.

mod machine;
mod nss;
mod ownership;
mod risks;
mod what_if;

use crate::installed::{POLICY, session_profile};
use crate::messages::{self, NO, Trouble, tell};
use caplet_policy::document::{Document, Source, render};
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use machine::{on_nosuid, subordinate_ids};
pub use nss::{ask, members};
pub use ownership::of_helper;
pub use risks::Risk;
pub use what_if::{Question, answer};

/// A policy larger than this is none; the helper refuses it too.
const LARGEST: u64 = 16 << 20;

/// Checks that file or folder, or what is installed.
pub fn run(path: Option<&Path>, strict: bool) -> ExitCode {
    let installed = path.is_none_or(|path| path == Path::new(POLICY));
    // The root of a session is not the machine's, and no file there is its own.
    if let Some(profile) = session_profile().filter(|_| installed) {
        tell(&Trouble::CheckInside { profile });
        return NO.into();
    }
    let path = path.unwrap_or(Path::new(POLICY));
    let mut report = Report::default();
    let files = report.files(path);
    report.ownership(&files, installed);
    let sources = report.sources(&files);
    let document = report.document(&sources);
    if installed {
        for trouble in machine::troubles(document.as_ref()) {
            report.warn(trouble);
        }
    }
    let code = report.finish();
    if strict && report.warnings > 0 { NO.into() } else { code }
}

/// The installed policy, if it has no fault; nothing is told.
pub fn installed_document() -> Option<Document> {
    let files = Report::default().files(Path::new(POLICY));
    let source = |file: &PathBuf| Some(Source { path: file.to_string_lossy().into_owned(), text: read(file).ok()? });
    let sources: Vec<Source> = files.files.iter().map(source).collect::<Option<_>>()?;
    Document::read(&sources).ok()
}

/// What was found so far.
#[derive(Debug, Default)]
struct Report {
    faults: usize,
    warnings: usize,
    /// Something may be read by root alone: then nothing is said about the policy as a whole.
    forbidden: bool,
    /// The verdict over a policy that could be read as a whole.
    profiles: Option<usize>,
}

/// The files that make up the policy, and the folders that hold them.
#[derive(Debug, Default)]
struct Files {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Report {
    fn fault(&mut self, trouble: &Trouble) {
        self.faults += 1;
        if let Trouble::Unreadable { error, .. } = trouble {
            self.forbidden |= error.kind() == ErrorKind::PermissionDenied;
        }
        tell(trouble);
    }

    /// Never changes the exit code but with `--strict`.
    fn warn(&mut self, trouble: Trouble) {
        self.warnings += 1;
        tell(&Trouble::Warning(Box::new(trouble)));
    }

    /// The files in the order in which they count.
    fn files(&mut self, path: &Path) -> Files {
        if !path.is_dir() {
            return Files { folders: Vec::new(), files: vec![path.to_owned()] };
        }
        let mut found = Files { folders: vec![path.to_owned()], files: vec![path.join("policy.toml")] };
        let dropins = path.join("policy.d");
        match drop_ins(&dropins) {
            Ok(names) => {
                found.files.extend(names.iter().map(|name| dropins.join(name)));
                found.folders.push(dropins);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.fault(&Trouble::Unreadable { path: dropins.into(), error }),
        }
        found
    }

    fn ownership(&mut self, files: &Files, installed: bool) {
        let mut folders = files.folders.clone();
        if installed {
            let above = Path::new(POLICY).ancestors().skip(1).map(Path::to_owned);
            folders.splice(0..0, above.collect::<Vec<_>>().into_iter().rev());
        }
        for (paths, is_folder) in [(&folders, true), (&files.files, false)] {
            for path in paths {
                match ownership::look(path, is_folder) {
                    Some(trouble) if installed => self.fault(&trouble),
                    Some(trouble) => self.warn(trouble),
                    None => {}
                }
            }
        }
        if installed {
            for trouble in ownership::of_helper() {
                match trouble {
                    // A policy can be in order before the program is there.
                    missing @ Trouble::NoHelper(_) => self.warn(missing),
                    wrong => self.fault(&wrong),
                }
            }
        }
    }

    fn sources(&mut self, files: &Files) -> Option<Vec<Source>> {
        let mut sources = Vec::new();
        for path in &files.files {
            match read(path) {
                Ok(text) => sources.push(Source { path: path.to_string_lossy().into_owned(), text }),
                Err(trouble) => self.fault(&trouble),
            }
        }
        (sources.len() == files.files.len()).then_some(sources)
    }

    fn document(&mut self, sources: &Option<Vec<Source>>) -> Option<Document> {
        let document = self.read(sources)?;
        for risk in risks::of(&document) {
            self.warnings += 1;
            tell(&Trouble::Risk(risk));
        }
        Some(document)
    }

    /// The policy, if it has no fault; else each fault is shown.
    fn read(&mut self, sources: &Option<Vec<Source>>) -> Option<Document> {
        let sources = sources.as_ref()?;
        match Document::read(sources) {
            Ok(document) => {
                self.profiles = Some(document.profiles.len());
                return Some(document);
            }
            Err(faults) => {
                self.faults += faults.faults.len();
                for fault in &faults.faults {
                    let text = render(fault, sources);
                    messages::write_stderr(&format!("{}\n", text.trim_end_matches('\n')));
                }
            }
        }
        None
    }

    fn finish(&self) -> ExitCode {
        match self.profiles {
            Some(profiles) if self.faults == 0 => {
                tell(&Trouble::NoFault { profiles });
                ExitCode::SUCCESS
            }
            _ if self.forbidden => NO.into(),
            _ => {
                tell(&Trouble::Faults { number: self.faults });
                NO.into()
            }
        }
    }
}

/// The drop-ins' names in byte order; those with a dot in front are leftovers of editors and package managers.
fn drop_ins(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_vec();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

/// Judges a text in a file's place, with the files that count beside it; every fault or risk is shown. Whether there
/// is no fault.
pub fn judge_in_place(path: &Path, text: &str) -> Result<bool, Trouble> {
    let folder = match (path.file_name(), path.parent()) {
        (Some(name), Some(folder)) if name == "policy.toml" => Some(folder),
        (_, Some(folder)) if folder.file_name().is_some_and(|name| name == "policy.d") => folder.parent(),
        _ => None,
    };
    let mut report = Report::default();
    // A drop-in without a policy.toml beside its folder is no part of a policy.
    let part = folder.filter(|folder| path.ends_with("policy.toml") || folder.join("policy.toml").exists());
    let mut files = part.map_or_else(|| vec![path.to_owned()], |folder| report.files(folder).files);
    if !files.iter().any(|file| file == path) {
        files.push(path.to_owned());
        files[1..].sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    }
    let source = |file: &PathBuf| {
        let text = if file == path { text.to_owned() } else { read(file)? };
        Ok(Source { path: file.to_string_lossy().into_owned(), text })
    };
    let sources = files.iter().map(source).collect::<Result<_, Trouble>>()?;
    report.document(&Some(sources));
    Ok(report.faults == 0)
}

/// A file's text.
pub fn read(path: &Path) -> Result<String, Trouble> {
    let name = || path.as_os_str().to_owned();
    let unreadable = |error| Trouble::Unreadable { path: name(), error };
    let meta = fs::metadata(path).map_err(unreadable)?;
    // A pipe or a device would be waited for.
    if !meta.is_file() {
        return Err(Trouble::NotAFile(name()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Trouble::TooLarge(name()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Trouble::NotText { path: name(), line: good.iter().filter(|b| **b == b'\n').count() + 1 }
    })
}
