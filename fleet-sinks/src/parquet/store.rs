//! Where files go: into a folder or a bucket, where each appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use fleet_core::error::{Error, ErrorKind, Result};
use fleet_core::time::{MINUTE, Micros, micros};

use super::{Archive, naming};

/// What begins the names of files that are being written. Readers pass over names with a dot in front.
const UNFINISHED: &str = ".tmp-";

/// Leftovers of a writer that was killed are removed when they are this old: a living one is quicker.
const LEFTOVER: Micros = 60 * MINUTE;

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine or of a network file system; made if it is missing.
    Folder(PathBuf),
    /// A bucket.
    #[cfg(feature = "s3")]
    Bucket(super::BucketOptions),
}

impl From<PathBuf> for Place {
    fn from(root: PathBuf) -> Self {
        Self::Folder(root)
    }
}

impl From<&Path> for Place {
    fn from(root: &Path) -> Self {
        Self::Folder(root.to_owned())
    }
}

/// A place in use.
#[derive(Debug)]
pub(super) enum Store {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    Bucket(super::Bucket),
}

#[cfg_attr(not(feature = "s3"), allow(clippy::unused_async, reason = "a bucket is asked"))]
impl Store {
    /// Opens the archive; makes a folder that is missing, and removes what killed writers left in it.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if a folder can't be made or read, or a bucket's
    /// options are none.
    pub(super) fn open(place: &Place, now: Micros) -> Result<Self> {
        let root = match place {
            Place::Folder(root) => root,
            #[cfg(feature = "s3")]
            Place::Bucket(options) => return Ok(Self::Bucket(super::Bucket::open(options)?)),
        };
        let failed = |e: io::Error| {
            let text = format!("the archive's folder {} can't be used", root.display());
            Error::configuration(text).caused_by(e)
        };
        fs::create_dir_all(root).map_err(failed)?;
        remove_leftovers(root, now).map_err(failed)?;
        Ok(Self::Folder(root.clone()))
    }

    /// Asks whether it is there.
    pub(super) async fn check(&self) -> Result<()> {
        match self {
            Self::Folder(root) => {
                let failed = |e| {
                    let text = format!("the archive's folder {} is not there", root.display());
                    Error::unavailable(text).caused_by(e)
                };
                // A network file system may take its time.
                let folder = root.clone();
                let asked = tokio::task::spawn_blocking(move || fs::read_dir(folder).map(drop)).await;
                let answer = asked
                    .map_err(|e| Error::internal("the task that looks for a folder ended").caused_by(e))?;
                answer.map_err(failed)
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => bucket.check().await,
        }
    }

    /// Makes a file visible under this path, in place of one that has it. Once this returned it survives
    /// a crash of the machine.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable): nothing is visible, or all of it; try again under
    /// another name. [`Configuration`](ErrorKind::Configuration): the right to write is missing.
    pub(super) async fn put(&self, path: String, bytes: Vec<u8>) -> Result<()> {
        let root = match self {
            Self::Folder(root) => root.clone(),
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => return bucket.put(&path, bytes).await,
        };
        let written =
            tokio::task::spawn_blocking(move || write(&root, &path, &bytes).map_err(|e| said(&path, e)));
        written.await.map_err(|e| Error::internal("the task that writes a file ended").caused_by(e))?
    }

    /// The days of which there are files, sorted.
    pub(super) async fn dates(&self) -> Result<Vec<String>> {
        match self {
            Self::Folder(root) => Archive::open(root).dates(),
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => bucket.dates().await,
        }
    }

    /// The paths of a day's visible files.
    pub(super) async fn files(&self, date: &str) -> Result<Vec<String>> {
        match self {
            Self::Folder(root) => {
                let (files, day) = (Archive::open(root).files(date)?, naming::folder(date));
                let path = |file: PathBuf| Some(format!("{day}/{}", file.file_name()?.to_str()?));
                Ok(files.into_iter().filter_map(path).collect())
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => bucket.files(date).await,
        }
    }

    /// A file's bytes.
    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>> {
        match self {
            Self::Folder(root) => fs::read(root.join(path))
                .map_err(|e| Error::data(format!("could not read {path} of the archive")).caused_by(e)),
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => bucket.get(path).await,
        }
    }

    /// Removes a file; of a folder's day the folder too, when nothing is left in it.
    pub(super) async fn remove(&self, path: &str) -> Result<()> {
        match self {
            Self::Folder(root) => {
                let file = root.join(path);
                fs::remove_file(&file).map_err(|e| said(path, e))?;
                // It stays if something is in it.
                let _ = file.parent().map(fs::remove_dir);
                Ok(())
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => bucket.remove(path).await,
        }
    }
}

fn said(path: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Configuration,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("could not write {path} into the archive")).caused_by(error)
}

/// Written under another name, on the disk, and only then renamed; the folder's entry is on the disk too.
/// (A library's local store renames as well, but leaves it to luck what a crash of the machine spares.)
fn write(root: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(path);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let is_new = !folder.is_dir();
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(format!("{UNFINISHED}{}", name.display()));
    let written = File::create(&unfinished)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    File::open(folder)?.sync_all()?;
    if is_new { File::open(root)?.sync_all() } else { Ok(()) }
}

fn remove_leftovers(root: &Path, now: Micros) -> io::Result<()> {
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            if !file.file_name().to_string_lossy().starts_with(UNFINISHED) {
                continue;
            }
            let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            if now.saturating_sub(micros(modified)) > LEFTOVER {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}
