//! A small disk to be filled up: a file system in memory, mounted for one test.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const CHUNK_BYTES: usize = 64 * 1024;
/// The last bit of room goes too.
const LAST_CHUNK_BYTES: usize = 512;

/// Unmounted when it is dropped, also while somebody still has files open on it.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, and a printed reason, where mounting is not allowed.
    pub fn mount(megabytes: usize) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("loms-disk.").tempdir().expect("a temporary folder");
        let options = format!("size={megabytes}m,mode=1777");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "loms-test"]).arg(folder.path()).output();
        match mounted {
            Ok(mounted) if mounted.status.success() => Some(Self { folder }),
            Ok(mounted) => skip(&String::from_utf8_lossy(&mounted.stderr)),
            Err(error) => skip(&error.to_string()),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that there is.
    pub fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).expect("a file");
        for length in [CHUNK_BYTES, LAST_CHUNK_BYTES] {
            loop {
                match filler.write_all(&vec![0; length]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the disk cannot be filled: {error}"),
                }
            }
        }
    }

    /// Gives back what [`Self::fill`] took.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("removed");
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Best effort: in memory it goes with its last user.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

fn skip(why: &str) -> Option<SmallDisk> {
    eprintln!("skipped: only root may mount a small disk: {}", why.trim());
    None
}

#[test]
fn a_full_disk_takes_nothing_until_there_is_room_again() {
    let Some(disk) = SmallDisk::mount(1) else { return };
    let file = disk.path().join("file");
    std::fs::write(&file, [1; 10_000]).expect("there is room");
    disk.fill();
    let error = std::fs::write(disk.path().join("other"), [1; 10_000]).expect_err("there is no room");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.free();
    std::fs::write(&file, [1; 20_000]).expect("there is room again");
}
