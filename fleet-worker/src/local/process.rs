//! A child process with its log; it ends with its value.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::usage::children;
use super::{LocalError, Result};

/// A process that we started, signalled by its own id only.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended(pub ExitStatus);

impl Process {
    /// Starts a command with its output in the file `log` (appended).
    ///
    /// # Errors
    /// If the program can't be started or the file not be written.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let failed = |e| LocalError::io(format!("{name} can't be started"), e);
        let file = File::options().create(true).append(true).open(log).map_err(failed)?;
        let both = file.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(file).stderr(both).kill_on_drop(true);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has printed.
    pub fn logs(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The last lines that it has printed, for an error.
    pub fn tail(&self) -> String {
        let logs = self.logs();
        let lines: Vec<&str> = logs.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal)
            .map_err(|e| LocalError::io(format!("signal to {}", self.name), e.into()))
    }

    fn pid(&self) -> Result<Pid> {
        self.id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| LocalError::new(format!("{} has ended already", self.name)))
    }

    /// SIGSTOP: it stands still when this returns.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        // On a busy machine its other threads run on for a while; NOWAIT leaves its end to the one that waits for it.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid()?), options)
            .map_err(|e| LocalError::io(format!("wait for {} to stop", self.name), e.into()))?;
        match status {
            Some(status) if status.stopped() => Ok(()),
            _ => Err(LocalError::new(format!("{} has ended already", self.name))),
        }
    }

    /// SIGCONT: it goes on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGSTOP to it and then to its children: it makes no more of them when it stands still.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause_all(&self) -> Result<()> {
        self.pause()?;
        self.signal_children(Signal::STOP);
        Ok(())
    }

    /// SIGCONT, after [`pause_all`](Self::pause_all).
    ///
    /// # Errors
    /// If it has ended.
    pub fn resume_all(&self) -> Result<()> {
        self.signal_children(Signal::CONT);
        self.resume()
    }

    fn signal_children(&self, signal: Signal) {
        let children = self.id().map(children).unwrap_or_default();
        for child in children.into_iter().filter_map(|id| Pid::from_raw(id.cast_signed())) {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(child, signal);
        }
    }

    /// SIGHUP, by which servers read their configuration again.
    ///
    /// # Errors
    /// If it has ended.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// SIGTERM, without waiting.
    ///
    /// # Errors
    /// If it has ended.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGINT, without waiting.
    ///
    /// # Errors
    /// If it has ended.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// SIGQUIT, without waiting.
    ///
    /// # Errors
    /// If it has ended.
    pub fn quit(&self) -> Result<()> {
        self.signal(Signal::QUIT)
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        // An error says that it is gone already.
        let _ = self.child.kill().await;
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<Ended> {
        self.child.try_wait().ok().flatten().map(Ended)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it does not within the time.
    pub async fn wait(&mut self, within: Duration) -> Result<Ended> {
        match timeout(within, self.child.wait()).await {
            Ok(Ok(status)) => Ok(Ended(status)),
            Ok(Err(e)) => Err(LocalError::io(&self.name, e)),
            Err(_) => {
                Err(LocalError::new(format!("{} did not end within {within:?}:\n{}", self.name, self.tail())))
            }
        }
    }

    /// Ends it without awaiting, for `drop`: with that signal, and with SIGKILL if that does not help.
    /// It is reaped, so that nothing of it is left: tokio would leave that to a runtime that may be gone.
    pub(super) fn end_now(&mut self, signal: Signal, within: Duration) {
        let _ = self.signal(signal);
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            #[allow(clippy::disallowed_methods, reason = "drop can't await, and it is a few milliseconds")]
            std::thread::sleep(Duration::from_millis(2));
        }
        // A second SIGKILL helps no more than the first.
        if signal != Signal::KILL {
            self.end_now(Signal::KILL, Duration::from_secs(5));
        }
    }

    /// Asks again and again until the answer is yes.
    ///
    /// # Errors
    /// With the end of the log, if it ends before or `within` is over.
    pub async fn until_ready<F: Future<Output = bool> + Send>(
        &mut self,
        within: Duration,
        mut ready: impl FnMut() -> F + Send,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            // A question that is never answered must not outlast `within`.
            if timeout(Duration::from_secs(5), ready()).await.unwrap_or(false) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(LocalError::new(format!("{} ended with {status}:\n{}", self.name, self.tail())));
            }
            if Instant::now() >= deadline {
                let tail = self.tail();
                return Err(LocalError::new(format!(
                    "{} was not ready within {within:?}:\n{tail}",
                    self.name
                )));
            }
            sleep(Duration::from_millis(40)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end_now(Signal::KILL, Duration::from_secs(5));
    }
}

/// Asks a loopback port `GET path`; the status and the body, or `None` where nothing answers.
pub async fn http_get(address: &str, path: &str) -> Option<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split_whitespace().nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?;
        Some((status, body))
    };
    timeout(Duration::from_secs(2), asked).await.ok().flatten()
}

/// A port of the loopback that is free now and below the range that outgoing connections take theirs
/// from, so that a server can be started on it again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes start at different places.
    #[allow(clippy::cast_possible_truncation, reason = "any start will do")]
    let start = (std::process::id().wrapping_mul(131) % 20_000) as u16;
    loop {
        let port = 11_000 + (start + NEXT.fetch_add(7, Ordering::Relaxed) % 20_000) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
