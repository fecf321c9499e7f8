//! A disk that is really full: a small file system in memory, which only root can mount.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fixture::{Fixture, NOON, speed};
use crate::outages::{Rows, Storing, operator};
use crate::server::Server;

/// A disk of the user to whom another folder belongs; it is gone with its value.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new(mebibytes: u32, owner: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (uid, gid) = fs::metadata(owner).map(|of| (of.uid(), of.gid())).unwrap();
        let options = format!("size={mebibytes}m,uid={uid},gid={gid},mode=0700");
        mount(&["-t", "tmpfs", "-o", &options, "small-disk"], folder.path());
        Self { folder }
    }

    fn grow(&self, mebibytes: u32) {
        mount(&["-o", &format!("remount,size={mebibytes}m")], self.folder.path());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that is still about may have files open.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) {
    let done = Command::new("mount").args(arguments).arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "this test must be run as one who may mount a tmpfs: {said}");
}

/// New rows with every batch, all of one day.
const NEW: Rows = |_, batch| (0..400).map(|i| speed(i % 20, NOON + (batch * 400 + i) as i64, 50.0)).collect();

async fn data_folder(fixture: &Fixture) -> PathBuf {
    fixture.client.query_one("show data_directory", &[]).await.unwrap().get::<_, String>(0).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_have_no_room_left() {
    let fixture = Fixture::on(Server::plain().await).await;
    let disk = Disk::new(6, &data_folder(&fixture).await);
    let operator = operator(&fixture.server).await;
    let path = disk.folder.path().display();
    operator.batch_execute(&format!("create tablespace small location '{path}'")).await.unwrap();
    operator.batch_execute("alter system set default_tablespace = small").await.unwrap();
    operator.batch_execute("select pg_reload_conf()").await.unwrap();
    let connector = fixture.server.connector();
    let storing = Storing::rows_by(NEW, fixture, connector);
    storing.goes_on(5).await;
    storing.fails(5).await;
    let said = storing.last_error();
    assert!(said.contains("SQLSTATE 53100"), "{said}");
    disk.grow(200);
    storing.ends_with_the_right_rows().await;
}

/// Then PostgreSQL gives up altogether, and somebody must make room and start it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_writes_has_no_room_left() {
    let mut fixture = Fixture::on(Server::plain().await).await;
    let data = data_folder(&fixture).await;
    fixture.server.stop().await;
    let (log, disk) = (data.join("pg_wal"), Disk::new(56, &data));
    let moved = Command::new("cp").arg("-a").arg(&log).arg(disk.folder.path()).status().unwrap();
    assert!(moved.success());
    fs::remove_dir_all(&log).unwrap();
    std::os::unix::fs::symlink(disk.folder.path().join("pg_wal"), &log).unwrap();
    fixture.server.start_again().await;
    let connector = fixture.server.connector();
    let mut storing = Storing::rows_by(NEW, fixture, connector);
    storing.goes_on(5).await;
    storing.fails(5).await;
    let logs = storing.fixture.server.logs();
    assert!(logs.contains("PANIC") && logs.contains("No space left on device"), "{logs}");
    disk.grow(400);
    storing.fixture.server.stop().await;
    storing.fixture.server.start_again().await;
    storing.ends_with_the_right_rows().await;
    // The server goes before its disk.
    drop(disk);
}
