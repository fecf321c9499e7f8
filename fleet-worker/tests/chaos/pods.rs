//! Workers and discovery as Kubernetes would run them: started again when they end.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet_worker::local::{Process, dependent, free_port, http_get};
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::{Instant, interval};

use crate::clock;
use crate::journal::Journal;
use crate::plan::{Blow, Pod};

/// How a pod's program is started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) folder: PathBuf,
    /// Its own ways to the servers.
    pub(crate) nats: String,
    pub(crate) postgres: String,
    /// The library that steps its clock, where there is one.
    pub(crate) faketime: Option<PathBuf>,
}

#[derive(Debug)]
struct Running {
    pod: Pod,
    start: Start,
    admin: String,
    process: Option<Process>,
    begun: Instant,
    /// Not to be started again yet.
    down: bool,
    /// Since when it has been asked to end, and whether it was up then.
    ending: Option<(Instant, bool)>,
    peak: u64,
}

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Pods {
    running: Arc<Mutex<Vec<Running>>>,
}

/// The default of `shutdown_deadline` and what a busy machine takes beside it.
const END: Duration = Duration::from_secs(40);

/// A program that can't reach a server at its start says so and ends, with 69, within this time.
const GIVES_UP: Duration = Duration::from_secs(60);

impl Running {
    fn launch(&mut self) -> Result<(), String> {
        let start = &self.start;
        let mut command = dependent(&start.program);
        let subcommand = if self.pod == Pod::Discovery { "discover" } else { "run" };
        command.arg(subcommand).arg("--config").arg(&start.config);
        command.env("FLEET_ADMIN__LISTEN", &self.admin).env("FLEET_NATS__URL", &start.nats);
        command.env("FLEET_SINK__TIMESCALE__URL", &start.postgres);
        if let Some(library) = &start.faketime {
            clock::preload(&mut command, library, &clock_file(&start.folder, self.pod));
        }
        let log = start.folder.join(format!("{}.log", self.pod));
        self.process = Some(Process::start("fleet-worker", command, &log).map_err(|e| e.to_string())?);
        self.begun = Instant::now();
        self.ending = None;
        Ok(())
    }

    /// Starts it again if it has ended, and says if it should not have.
    async fn look(&mut self, journal: &Journal) {
        if let Some(process) = &mut self.process {
            if let Some(usage) = process.usage() {
                self.peak = self.peak.max(usage.peak_memory);
            }
            let Some(ended) = process.has_ended() else {
                if self.ending.is_some_and(|(since, _)| since.elapsed() > END) {
                    journal.problem(format_args!("{} did not end on SIGTERM within {END:?}", self.pod));
                    process.kill().await;
                }
                return;
            };
            let code = ended.0.code();
            let gave_up = code == Some(69) && self.begun.elapsed() < GIVES_UP;
            let as_asked = match self.ending {
                // Without its servers it can't give its vehicles back, and says so.
                Some((_, true)) => code == Some(0) || code == Some(69),
                // Until it has reached its servers, SIGTERM ends it as it ends any program.
                Some((_, false)) => code == Some(0) || ended.0.signal() == Some(Signal::TERM.as_raw()),
                None => false,
            };
            if !(gave_up || as_asked) {
                let tail = process.tail();
                journal.problem(format_args!("{} ended with {}:\n{tail}", self.pod, ended.0));
            }
            self.process = None;
        }
        if !self.down
            && let Err(why) = self.launch()
        {
            journal.problem(format_args!("{} can't be started: {why}", self.pod));
        }
    }
}

pub(crate) fn clock_file(folder: &Path, pod: Pod) -> PathBuf {
    folder.join(format!("{pod}.clock"))
}

impl Pods {
    pub(crate) fn launch(all: Vec<(Pod, Start)>) -> Result<Self, String> {
        let mut running = Vec::new();
        for (pod, start) in all {
            clock::step(&clock_file(&start.folder, pod), 0)?;
            let admin = format!("127.0.0.1:{}", free_port());
            let begun = Instant::now();
            let mut one =
                Running { pod, start, admin, process: None, begun, down: false, ending: None, peak: 0 };
            one.launch()?;
            running.push(one);
        }
        Ok(Self { running: Arc::new(Mutex::new(running)) })
    }

    /// Where each can be asked.
    pub(crate) async fn admins(&self) -> Vec<(Pod, String)> {
        self.running.lock().await.iter().map(|one| (one.pod, one.admin.clone())).collect()
    }

    /// The largest resident set of any worker so far, bytes.
    pub(crate) async fn peak(&self) -> u64 {
        let running = self.running.lock().await;
        let workers = running.iter().filter(|one| one.pod != Pod::Discovery);
        workers.map(|one| one.peak).max().unwrap_or(0)
    }

    /// Keeps them running for ever.
    pub(crate) async fn keep(self, journal: Arc<Journal>) {
        let mut tick = interval(Duration::from_millis(200));
        loop {
            tick.tick().await;
            for one in self.running.lock().await.iter_mut() {
                one.look(&journal).await;
            }
        }
    }

    /// Does something to one, or lets it be well again.
    pub(crate) async fn set(&self, pod: Pod, blow: Blow, on: bool) -> Result<(), String> {
        let mut running = self.running.lock().await;
        let one = running.iter_mut().find(|one| one.pod == pod).ok_or("no such program")?;
        let up = http_get(&one.admin, "/healthz").await.is_some();
        // One that gave up on a server may have ended already, and is about to be started again.
        match (blow, on, &mut one.process) {
            (Blow::Stop, true, Some(process)) => drop(process.pause()),
            (Blow::Stop, false, Some(process)) => drop(process.resume()),
            (Blow::Kill, true, Some(process)) => {
                one.down = true;
                process.kill().await;
                one.process = None;
            }
            (Blow::Terminate, true, Some(process)) => {
                one.down = true;
                if process.terminate().is_ok() {
                    one.ending = Some((Instant::now(), up));
                }
            }
            (_, true, None) => one.down = blow != Blow::Stop,
            (_, false, _) => one.down = false,
        }
        Ok(())
    }

    /// SIGTERM to all; says which did not end well.
    pub(crate) async fn end(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut running = self.running.lock().await;
        for process in running.iter_mut().filter_map(|one| one.process.as_mut()) {
            let _ = process.terminate();
        }
        for one in running.iter_mut() {
            let Some(process) = &mut one.process else { continue };
            match process.wait(END).await {
                Ok(ended) if ended.0.code() == Some(0) => {}
                Ok(ended) => wrong.push(format!("{} ended with {} at the end", one.pod, ended.0)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        wrong
    }

    pub(crate) async fn tails(&self) -> String {
        let running = self.running.lock().await;
        let tail = |one: &Running| one.process.as_ref().map_or_else(String::new, Process::tail);
        running.iter().map(|one| format!("--- {}\n{}\n", one.pod, tail(one))).collect()
    }
}
