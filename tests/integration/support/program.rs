//! The real binary as a child process: started, signalled, killed and started again in one folder.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use super::private_server::{signal_process, wait_at_most};

const START_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// What the program prints once it serves, whichever service it is, followed by its address.
const ANNOUNCEMENT: &str = " on ";
/// Settings of the one who runs the tests; no test may depend on them.
const SETTINGS: [&str; 4] = ["LOMS_", "DATABASE_URL", "AMQP_URL", "PRODUCT_SERVICE_"];

/// How to start the program; the same again after a kill.
#[derive(Clone)]
pub struct Settings {
    executable: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Put into its folder before it starts, by their names.
    files: Vec<(String, String)>,
}

/// A running program, or one that was stopped and may be started again. Killed with this value.
pub struct Program {
    settings: Settings,
    folder: TempDir,
    process: Option<Child>,
    url: String,
    output: Output,
}

/// Everything that the program wrote, over all its starts.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Settings {
    pub fn new() -> Self {
        Self::of(env!("CARGO_BIN_EXE_loms"))
    }

    fn of(executable: impl Into<PathBuf>) -> Self {
        let environment = vec![("LOMS_LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
        Self { executable: executable.into(), arguments: vec![], environment, files: vec![] }
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Where the test does not say otherwise.
    pub fn by_default(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it in a folder of its own and waits until it serves.
    ///
    /// # Panics
    /// Where it does not within 30 s, with everything that it wrote.
    pub fn start(self) -> Program {
        self.try_start().unwrap_or_else(|why| panic!("{why}"))
    }

    /// As `start`, for tests in which it must not come up.
    pub fn try_start(self) -> Result<Program, String> {
        let folder = tempfile::Builder::new().prefix("loms-program.").tempdir().expect("a temporary folder");
        for (name, text) in &self.files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let mut program =
            Program { settings: self, folder, process: None, url: String::new(), output: Output::default() };
        program.launch()?;
        Ok(program)
    }
}

impl Program {
    /// `http://127.0.0.1:PORT`; another one after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it runs: its database and configuration are here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn output(&self) -> String {
        self.output.text()
    }

    /// What it was given in the environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let mut given = self.settings.environment.iter().rev();
        given.find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The process's id, for signals that have no method here.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the program runs").id()
    }

    /// SIGKILL: it gets to do nothing more.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the program runs");
        process.kill().expect("killed");
        process.wait().expect("ended");
    }

    /// SIGTERM, as a service manager sends it.
    pub fn terminate(&mut self) -> ExitStatus {
        signal_process(self.id(), "TERM");
        let mut process = self.process.take().expect("the program runs");
        wait_at_most(&mut process, STOP_TIME_MAX).unwrap_or_else(|| {
            let _ = process.kill();
            let _ = process.wait();
            panic!("the program did not end within {STOP_TIME_MAX:?} of SIGTERM:\n{}", self.output());
        })
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let mut process = self.process.take().expect("the program runs");
        wait_at_most(&mut process, limit).unwrap_or_else(|| {
            let _ = process.kill();
            let _ = process.wait();
            panic!("the program did not end within {limit:?}:\n{}", self.output());
        })
    }

    /// Starts it again in the same folder, with the same settings.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the program still runs");
        self.launch().unwrap_or_else(|why| panic!("{why}"));
    }

    /// The same, without waiting until it serves.
    pub fn begin_restart(&mut self) {
        assert!(self.process.is_none(), "the program still runs");
        self.spawn().unwrap_or_else(|why| panic!("{why}"));
    }

    fn launch(&mut self) -> Result<(), String> {
        let announced = self.spawn()?;
        if let Ok(url) = announced.recv_timeout(START_TIME_MAX) {
            self.url = url;
            return Ok(());
        }
        let mut process = self.process.take().expect("it was started");
        let _ = process.kill();
        let status = process.wait().expect("ended");
        Err(format!("the program did not serve ({status}):\n{}", self.output()))
    }

    /// Gives where its address will be told.
    fn spawn(&mut self) -> Result<mpsc::Receiver<String>, String> {
        let mut command = Command::new(&self.settings.executable);
        without_settings(&mut command);
        command.args(&self.settings.arguments).envs(self.settings.environment.iter().cloned());
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("the program does not start: {error}"))?;

        // Dropped by both readers when the program closes its output: then it will not announce itself.
        let (announce, announced) = mpsc::channel();
        self.output.read(child.stdout.take().expect("piped"), announce.clone());
        self.output.read(child.stderr.take().expect("piped"), announce);
        self.process = Some(child);
        Ok(announced)
    }
}

/// The memory that a process holds.
pub fn resident_bytes(process: u32) -> u64 {
    memory_bytes(process, "VmRSS:").expect("a running process")
}

/// The most that it has held so far; `None` once it has ended.
pub fn resident_bytes_max(process: u32) -> Option<u64> {
    memory_bytes(process, "VmHWM:")
}

fn memory_bytes(process: u32, what: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(what))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("the program wrote:\n{}", self.output());
        }
    }
}

impl Output {
    fn read(&self, stream: impl Read + Send + 'static, announce: mpsc::Sender<String>) {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut announce = Some(announce);
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                output.append(&line);
                let url = line.split_once(ANNOUNCEMENT).and_then(|(_, rest)| rest.split_whitespace().next());
                if let (Some(url), Some(announce)) = (url.filter(|url| url.starts_with("http://")), announce.take()) {
                    let _ = announce.send(url.to_owned());
                }
            }
        });
    }

    fn append(&self, line: &str) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The command will know nothing of the settings of the one who runs the tests.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if SETTINGS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// A stand-in that announces itself and then does as the script says.
fn script(text: &str) -> Settings {
    Settings::of("/bin/sh").argument("-c").argument(text)
}

#[test]
fn a_program_is_up_when_it_announces_its_address() {
    let counting = "echo start >> starts; echo \"listening on http://$LOMS_LISTEN\"; exec sleep 60";
    let mut program = script(counting).variable("LOMS_CURRENCY", "GBP").start();
    assert_eq!(program.url(), "http://127.0.0.1:0");
    assert!(program.output().contains("listening on"));

    program.kill();
    program.restart();
    let starts = std::fs::read_to_string(program.folder().join("starts")).expect("written by both starts");
    assert_eq!(starts, "start\nstart\n", "the folder is the same after a restart");
}

#[test]
fn a_program_that_is_told_to_end_gives_its_exit_status() {
    let mut program =
        script("trap 'echo bye; exit 3' TERM; echo 'listening on http://x'; while :; do sleep 0.01; done").start();
    assert_eq!(program.terminate().code(), Some(3));
}

#[test]
fn a_program_that_ends_before_it_serves_is_shown_with_its_output() {
    let failure = script("echo 'no such database' >&2; exit 4").try_start().err().expect("it cannot start");
    assert!(failure.contains("no such database") && failure.contains("exit status: 4"), "{failure}");
}

#[test]
fn the_real_program_does_not_serve_with_an_unknown_flag() {
    assert!(Settings::new().argument("--no-such-flag").try_start().is_err());
}
