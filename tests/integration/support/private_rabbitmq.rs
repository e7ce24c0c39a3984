//! A RabbitMQ node of one test's own, to be stopped, killed, paused and started again.
//!
//! Made of the installed programs, in a temporary folder, on free ports of 127.0.0.1, with a name
//! service (epmd) of its own: nothing is shared with a node that the machine runs. A node burns
//! some seconds of processor time at each start, so a test starts as few as it can.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::private_server::{signal_process, wait_at_most};

const START_ATTEMPTS_MAX: usize = 5;
const START_TIME_MAX: Duration = Duration::from_secs(120);
const NAME_SERVICE_START_TIME_MAX: Duration = Duration::from_secs(10);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
const QUEUE_ON_DISK_TIME_MAX: Duration = Duration::from_secs(10);
const CONTROL_TIME_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

const FOLDER_PREFIX: &str = "loms-rabbitmq.";
/// The node's log has it once everything is open, the listener for AMQP included.
const STARTED: &str = "Server startup complete";
/// One thread each for a node's work, and all of its listeners on loopback.
const ERLANG_FLAGS: &str = "+S 1:1 +SDcpu 1:1 +SDio 1 -kernel inet_dist_use_interface {127,0,0,1}";

pub struct PrivateRabbit {
    folder: TempDir,
    programs: PathBuf,
    ports: Ports,
    /// Further lines of its configuration.
    settings: String,
    name_service: Option<Child>,
    process: Option<Child>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    /// For `rabbitmqctl`, which is a node too.
    distribution: u16,
    name_service: u16,
}

impl PrivateRabbit {
    /// Makes a node and starts it; `None`, and a printed reason, where RabbitMQ is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(None, String::new())
    }

    /// The same, with the definitions of a file imported at every start, and the user of
    /// [`Self::url`] added to them.
    pub fn start_with_definitions(path: &Path) -> Option<Self> {
        Self::start_with(Some(path), String::new())
    }

    /// As production is set up: with the `rabbitmq.conf` and the `definitions.json` of a folder, but for
    /// the places where they stand, and the port.
    pub fn start_as_deployed(folder: &Path) -> Option<Self> {
        let settings = std::fs::read_to_string(folder.join("rabbitmq.conf")).expect("settings");
        let is_place = |line: &&str| ["listeners.", "load_definitions"].iter().any(|place| line.starts_with(place));
        let settings: String =
            settings.lines().filter(|line| !is_place(line)).map(|line| format!("{line}\n")).collect();
        Self::start_with(Some(&folder.join("definitions.json")), settings)
    }

    fn start_with(definitions: Option<&Path>, settings: String) -> Option<Self> {
        let Some(programs) = find_programs() else {
            eprintln!("skipped: RabbitMQ's server programs are not installed; run the tests with `make test`");
            return None;
        };
        let folder = tempfile::Builder::new().prefix(FOLDER_PREFIX).tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("enabled_plugins"), "[].\n").expect("written");
        if let Some(path) = definitions {
            let text = std::fs::read_to_string(path).expect("the definitions");
            let text = with_guest(serde_json::from_str(&text).expect("definitions in JSON")).to_string();
            std::fs::write(folder.path().join("definitions.json"), text).expect("written");
        }
        let mut node = Self { folder, programs, ports: Ports::free(), settings, name_service: None, process: None };

        // Between the choice of the ports and the start another program may have taken one.
        for _ in 0..START_ATTEMPTS_MAX {
            node.write_configuration();
            if node.try_start() {
                return Some(node);
            }
            node.end();
            node.ports = Ports::free();
        }
        panic!("the node does not start:\n{}", node.log());
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.amqp).into()
    }

    /// Stops in order: connections are closed, everything is written out.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the node runs");
        signal_process(process.id(), "TERM");
        if wait_at_most(&mut process, STOP_TIME_MAX).is_none() {
            signal_process(process.id(), "KILL");
            let _ = process.wait();
            panic!("the node did not stop within {STOP_TIME_MAX:?}:\n{}", self.log());
        }
    }

    /// Waits until a kill leaves a new quorum queue usable. RabbitMQ 3.10 writes the names of these
    /// queues to disk half a second late; one it was killed before never has a leader again, and
    /// takes no messages.
    pub fn wait_until_on_disk(&mut self, queue: &str) {
        let name = self.name();
        let names = self.folder.path().join("state").join(&name).join("quorum").join(&name).join("names.dets");
        let entry = format!("%2F_{queue}").into_bytes();
        let process = self.process.as_mut().expect("the node runs");
        let deadline = Instant::now() + QUEUE_ON_DISK_TIME_MAX;
        while !std::fs::read(&names).is_ok_and(|bytes| bytes.windows(entry.len()).any(|part| part == entry)) {
            assert!(Instant::now() < deadline, "the name of the queue {queue} does not reach {}", names.display());
            assert!(wait_at_most(process, LOOK_AGAIN_AFTER).is_none(), "the node ended");
        }
    }

    /// SIGKILL: what was not on disk is lost.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the node runs");
        signal_process(process.id(), "KILL");
        let _ = process.wait();
    }

    /// Starts the stopped or killed node again, on the same ports and files.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the node still runs");
        let deadline = Instant::now() + START_TIME_MAX;
        // After a kill, the name service may hold the node's name for a moment.
        while !self.try_start() {
            assert!(Instant::now() < deadline, "the node does not start again:\n{}", self.log());
        }
    }

    /// Halts the node with its connections open: to its clients it is as silent as one far away.
    pub fn pause(&self) {
        signal_process(self.process.as_ref().expect("the node runs").id(), "STOP");
    }

    pub fn resume(&self) {
        signal_process(self.process.as_ref().expect("the node runs").id(), "CONT");
    }

    /// What `rabbitmqctl --silent` with these arguments prints about this node.
    pub fn control(&self, arguments: &[&str]) -> String {
        self.tool("rabbitmqctl", &[&["--silent"], arguments].concat()).unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    /// What one of RabbitMQ's tools prints about this node; as an error where it fails.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.program(name);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it runs");
        if wait_at_most(&mut process, CONTROL_TIME_MAX).is_none() {
            let _ = process.kill();
        }
        let output = process.wait_with_output().expect("its output");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let wrong = || format!("{name} {arguments:?}, {}: {text}{complaint}", output.status);
        if output.status.success() { Ok(text) } else { Err(wrong()) }
    }

    /// Whether it got as far as to take connections. Where it ended first, its log tells why.
    fn try_start(&mut self) -> bool {
        if self.name_service.is_none() && !self.try_start_name_service() {
            return false;
        }
        let log_path = self.log_path();
        let log = File::create(&log_path).expect("a log file");
        let process = self
            .program("rabbitmq-server")
            // The script then turns into the node, instead of waiting for it: its id is the node's.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        let process = self.process.insert(process.expect("rabbitmq-server runs"));

        let deadline = Instant::now() + START_TIME_MAX;
        while Instant::now() < deadline {
            if std::fs::read_to_string(&log_path).unwrap_or_default().contains(STARTED) {
                return true;
            }
            if wait_at_most(process, LOOK_AGAIN_AFTER).is_some() {
                self.process = None;
                return false;
            }
        }
        panic!("the node neither started nor failed within {START_TIME_MAX:?}:\n{}", self.log());
    }

    /// In the foreground: a node that finds none would start one that outlives the test.
    fn try_start_name_service(&mut self) -> bool {
        let port = self.ports.name_service;
        let mut epmd = Command::new("epmd");
        epmd.args(["-address", "127.0.0.1", "-port"]).arg(port.to_string());
        let process = epmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = self.name_service.insert(process.expect("epmd runs"));

        let deadline = Instant::now() + NAME_SERVICE_START_TIME_MAX;
        while Instant::now() < deadline {
            if wait_at_most(process, LOOK_AGAIN_AFTER).is_some() {
                self.name_service = None;
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return true;
            }
        }
        panic!("epmd neither started nor failed within {NAME_SERVICE_START_TIME_MAX:?}");
    }

    /// One of the node's programs, which know their node by the environment, and nothing else of it.
    fn program(&self, name: &str) -> Command {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env_clear();
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            // Erlang makes its cookie there, which only this node and its `rabbitmqctl` know.
            .env("HOME", self.folder.path())
            .env("ERL_FLAGS", ERLANG_FLAGS)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.ports.name_service.to_string())
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("state"))
            .env("RABBITMQ_LOG_BASE", path("logs"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            // Files that do not exist, instead of those that the machine's own node is set up with.
            .env("RABBITMQ_CONFIG_FILES", path("conf.d"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", path("rabbitmq-env.conf"));
        command
    }

    fn write_configuration(&self) {
        let mut text = format!("{}listeners.tcp.1 = 127.0.0.1:{}\n", self.settings, self.ports.amqp);
        let definitions = self.folder.path().join("definitions.json");
        if definitions.exists() {
            text += &format!("load_definitions = {}\n", definitions.display());
        }
        std::fs::write(self.folder.path().join("rabbitmq.conf"), text).expect("written");
    }

    /// As random as the folder's name.
    fn name(&self) -> String {
        let folder = self.folder.path().file_name().and_then(std::ffi::OsStr::to_str).expect("a name in UTF-8");
        format!("loms-test-{}@localhost", folder.trim_start_matches(FOLDER_PREFIX))
    }

    /// Ends what still runs, at once.
    fn end(&mut self) {
        for mut process in [self.process.take(), self.name_service.take()].into_iter().flatten() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("node.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for PrivateRabbit {
    fn drop(&mut self) {
        self.end();
    }
}

impl Ports {
    /// The kernel's choice; all are held until the last is chosen, so that they differ.
    fn free() -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        let [amqp, distribution, name_service] =
            listeners.each_ref().map(|listener| listener.local_addr().expect("its address").port());
        Self { amqp, distribution, name_service }
    }
}

/// A node that imports definitions makes no user of its own accord.
fn with_guest(mut definitions: Value) -> Value {
    let user = json!({"name": "guest", "password": "guest", "tags": "administrator"});
    let permission = json!({"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"});
    for (list, entry) in [("users", user), ("permissions", permission)] {
        match definitions[list].as_array_mut() {
            Some(entries) => entries.push(entry),
            None => definitions[list] = json!([entry]),
        }
    }
    definitions
}

/// Debian's and Fedora's own folder, else what the PATH has. (In the PATH of those two are scripts
/// that change to the user of the machine's node.)
fn find_programs() -> Option<PathBuf> {
    let packaged = PathBuf::from("/usr/lib/rabbitmq/bin");
    if packaged.join("rabbitmq-server").exists() {
        return Some(packaged);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| folder.join("rabbitmq-server").exists())
}
