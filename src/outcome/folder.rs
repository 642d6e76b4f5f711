//! The folders and the lock of a pipeline's state, guarded against other owners, links and a
//! second process.
//!
//! `<state>/<target>/state/<pipeline>.db` is the checkpoint, `.lock` beside it the lock,
//! `<state>/<target>/runs/<pipeline>/<run>/` the outcome files of a run.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::SourceSpec;
use crate::model::{Class, Diagnostic, Failure};

/// Where the state of one pipeline and target lies.
#[derive(Debug, Clone)]
pub struct Folder {
    top: PathBuf,
    target: PathBuf,
    pipeline: String,
}

/// Whether a missing state folder may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Make what is missing.
    Create,
    /// A missing folder is an error: somebody mounted the wrong volume.
    MustExist,
}

impl Folder {
    /// The state of `pipeline` for `target` (the environment's name, or `sandbox`) below `top`.
    #[must_use]
    pub fn new(top: &Path, target: &str, pipeline: &str) -> Self {
        Self { top: top.to_owned(), target: top.join(target), pipeline: pipeline.to_owned() }
    }

    /// The name of the target.
    #[must_use]
    pub fn target(&self) -> String {
        self.target.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The name of the pipeline.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The checkpoint file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.target.join("state").join(format!("{}.db", self.pipeline))
    }

    /// Where standard input is spooled.
    #[must_use]
    pub fn stdin(&self) -> PathBuf {
        self.target.join("state").join(format!("{}.stdin", self.pipeline))
    }

    /// Where a list of an API is spooled.
    #[must_use]
    pub fn listing(&self) -> PathBuf {
        self.target.join("state").join(format!("{}.list", self.pipeline))
    }

    /// Where the rows of a lookup that is a list of an API are spooled.
    #[must_use]
    pub fn lookup(&self, name: &str) -> PathBuf {
        self.target.join("state").join(format!("{}.lookup-{name}", self.pipeline))
    }

    /// Where a list is written until it is whole.
    #[must_use]
    pub fn new_listing(&self) -> PathBuf {
        self.temporary().join("list.part")
    }

    /// The keys that vanished from an input of a run: the input of what deletes them. It lies where state lies, as
    /// nothing else knows them by name.
    #[must_use]
    pub fn vanished(&self, run: &str, input_digest: u64) -> PathBuf {
        let name = format!("{}{run}-{input_digest:016x}.ndjson", self.vanished_prefix());
        self.target.join("state").join(name)
    }

    fn vanished_prefix(&self) -> String {
        format!("{}.vanished-", self.pipeline)
    }

    /// The run whose input lacks the keys of such a file.
    #[must_use]
    pub fn run_of_vanished<'f>(&self, file: &'f Path) -> Option<&'f str> {
        let name = file.file_name()?.to_str()?.strip_prefix(&self.vanished_prefix())?;
        Some(name.strip_suffix(".ndjson")?.rsplit_once('-')?.0)
    }

    /// Where a list that is whole lies until a run has taken it.
    #[must_use]
    pub fn untaken(listing: &Path) -> PathBuf {
        let mut name = listing.as_os_str().to_owned();
        name.push(".new");
        PathBuf::from(name)
    }

    /// Puts a list that is whole in the place of an older one.
    pub fn keep_listing(&self, part: &Path, listing: &Path) -> Result<(), Failure> {
        refuse_links(listing)?;
        std::fs::rename(part, listing).map_err(|error| Failure::io("keep", listing, &error))?;
        sync_folder(&self.target.join("state"))
    }

    /// Where an input lies that is no file of its own: standard input, or a list of an API.
    #[must_use]
    pub fn spool_of(&self, source: &SourceSpec) -> Option<PathBuf> {
        if source.is_stdin() { Some(self.stdin()) } else { source.is_api().then(|| self.listing()) }
    }

    /// Where temporary files of the first pass lie.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.target.join("state").join(format!("{}.tmp", self.pipeline))
    }

    /// Removes what a start that was killed left behind: temporary files and an old spool. The
    /// caller holds the lock.
    pub fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(self.temporary()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("sort-") && name.ends_with(".tmp") || name == "list.part" {
                // It is only in the way; the next start tries again.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_file(self.stdin());
    }

    /// The folder of all runs of the pipeline.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.target.join("runs").join(&self.pipeline)
    }

    /// The folder of one run.
    #[must_use]
    pub fn run(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    /// Makes the folders that are missing (0700) and refuses those that others could change.
    pub fn prepare(&self, usage: Use) -> Result<(), Failure> {
        if usage == Use::MustExist && !self.top.is_dir() {
            return Err(Failure::new(
                Class::State,
                Diagnostic::error(
                    "state-missing",
                    format!("the state folder {} is not there", self.top.display()),
                )
                .note("`require_state: true` is set, so it is not made by itself; nothing was sent")
                .help("mount the folder that holds the state, or make a new one with `runner init --state`"),
            ));
        }
        let state = self.target.join("state");
        let runs = self.target.join("runs");
        for folder in [&self.top, &self.target, &state, &self.temporary(), &runs, &self.runs()] {
            make_private_folder(folder)?;
        }
        self.refuse_foreign_files()
    }

    /// Refuses state that is there and not ours alone, for commands that look without making any.
    pub fn guard(&self) -> Result<(), Failure> {
        let (state, runs) = (self.target.join("state"), self.target.join("runs"));
        for folder in [&self.top, &self.target, &state, &runs, &self.runs()] {
            refuse_foreign_folder(folder)?;
        }
        self.refuse_foreign_files()
    }

    fn refuse_foreign_files(&self) -> Result<(), Failure> {
        let state = self.target.join("state");
        for ending in ["db", "db-wal", "db-shm", "db-journal", "db.new", "lock", "stdin", "list", "list.new"]
        {
            refuse_links(&state.join(format!("{}.{ending}", self.pipeline)))?;
        }
        // Whoever reads a table would follow a link, and wait at a pipe for ever.
        let tables = format!("{}.lookup-", self.pipeline);
        for entry in std::fs::read_dir(&state).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&tables) {
                refuse_links(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes the folder of a run, or looks at what lies in it.
    pub fn make_run(&self, id: &str) -> Result<PathBuf, Failure> {
        let path = self.run(id);
        make_private_folder(&path)?;
        self.guard_run(id)?;
        Ok(path)
    }

    /// Refuses the folder of a run when something in it is neither a plain file nor a folder that
    /// somebody put there. Files of ours are replaced by a rename, which leaves the target of a
    /// link alone; but whoever reads one would follow it, and would wait at a pipe for ever.
    pub fn guard_run(&self, id: &str) -> Result<(), Failure> {
        let path = self.run(id);
        refuse_foreign_folder(&path)?;
        let Ok(entries) = std::fs::read_dir(&path) else { return Ok(()) };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some() || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                refuse_links(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the folder of a run that is not kept any more.
    pub fn remove_run(&self, id: &str) -> Result<(), Failure> {
        let state = self.target.join("state");
        for entry in std::fs::read_dir(&state).into_iter().flatten().flatten() {
            let path = entry.path();
            if self.run_of_vanished(&path) == Some(id) {
                std::fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, &error))?;
            }
        }
        let path = self.run(id);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("remove", &path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock, or says who holds it. It is held until the value is dropped.
    pub fn lock(&self) -> Result<Lock, Failure> {
        let path = self.target.join("state").join(format!("{}.lock", self.pipeline));
        refuse_links(&path)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|error| Failure::io("open the lock", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(200).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() {
                    "another process".into()
                } else {
                    holder.trim().to_owned()
                };
                return Err(Failure::new(
                    Class::State,
                    Diagnostic::error(
                        "run-locked",
                        format!("another start of {} is under way", self.pipeline),
                    )
                    .at(path.display().to_string())
                    .note(format!("held by {holder}; it was not disturbed, nothing was sent"))
                    .help("wait until it ends, or stop that process; the lock goes with it"),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::io("lock", &path, &error)),
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let about = format!("process {} on {}\n", std::process::id(), host.trim());
        // Only for messages of others: a failure to write it changes nothing.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(about.as_bytes()));
        Ok(Lock { _file: file })
    }
}

/// The exclusive right to work on a pipeline's state; let go when dropped or when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Refuses a path that is there and is not a plain file: a link could lead anywhere.
pub(super) fn refuse_links(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_file() => {
            let what = if found.file_type().is_symlink() { "a link" } else { "not a plain file" };
            Err(Failure::new(
                Class::State,
                Diagnostic::error("state-foreign", format!("{} is {what}", path.display()))
                    .note("state is kept in plain files only; it was left alone, nothing was sent")
                    .help("remove it, or point `state:` to another folder"),
            ))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("look at", path, &error)),
    }
}

fn make_private_folder(path: &Path) -> Result<(), Failure> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            // The new entry has to survive a loss of power like what will be in it.
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
            return Ok(());
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Failure::io("make the folder", path, &error)),
    }
    refuse_foreign_folder(path)
}

/// Refuses a path that is there and is no folder, or one that others could change.
fn refuse_foreign_folder(path: &Path) -> Result<(), Failure> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io("look at", path, &error)),
    };
    let refuse = |why: String, help: &str| {
        Err(Failure::new(
            Class::State,
            Diagnostic::error("state-foreign", format!("the state folder {} {why}", path.display()))
                .note("nothing was sent")
                .help(help.to_owned()),
        ))
    };
    if !found.is_dir() {
        return refuse("is not a folder".into(), "remove it, or point `state:` to another folder");
    }
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return refuse(
            format!("belongs to user {}, not to {me}", found.uid()),
            "run as its owner, or point `state:` to a folder of your own",
        );
    }
    if found.mode() & 0o022 != 0 {
        return refuse(
            format!("can be written by others (mode {:o})", found.mode() & 0o777),
            &format!("`chmod go-w {}`", path.display()),
        );
    }
    Ok(())
}

/// Syncs a folder, so that names made in it survive a loss of power.
pub(super) fn sync_folder(path: &Path) -> Result<(), Failure> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Failure::io("sync the folder", path, &error))
}
