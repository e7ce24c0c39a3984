//! A PostgreSQL server of one test's own, to be stopped, killed and started again.
//!
//! Made of the installed programs, in a temporary folder, on a free port of 127.0.0.1, durable as
//! in production. As root it runs under PostgreSQL's own user, for the server refuses root.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_ATTEMPTS_MAX: usize = 10;
const START_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

pub struct PrivateServer {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// How a server ends.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// Open transactions are rolled back, the rest is written out.
    Fast,
    /// Nothing is written out: the next start recovers from the log.
    Immediate,
    /// SIGKILL of the main process; the others notice and end.
    Kill,
}

impl PrivateServer {
    /// Makes a server and starts it; `None`, and a printed reason, where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        Self::start_in(&std::env::temp_dir(), &[])
    }

    /// The same with its files somewhere else, made by `initdb` with further arguments.
    pub fn start_in(place: &Path, arguments: &[&str]) -> Option<Self> {
        let Some(programs) = find_programs() else {
            eprintln!("skipped: PostgreSQL's server programs are not installed; run the tests with `make test`");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("loms-postgres.").tempdir_in(place).expect("a folder");
        if is_root() {
            let owner = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(owner.expect("chown runs").success(), "there is no user postgres to run the server");
        }
        let mut server = Self { folder, programs, port: 0, process: None };
        let initdb = server
            .program("initdb")
            .args(["--pgdata=state", "--username=loms", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(arguments)
            .output()
            .expect("initdb runs");
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));

        // Between the choice of a port and the start another program may have taken it.
        for _ in 0..START_ATTEMPTS_MAX {
            server.port = free_port();
            if server.try_start() {
                return Some(server);
            }
        }
        panic!("the server does not start:\n{}", server.log());
    }

    /// Ends in `/`; a database's name follows.
    pub fn url(&self) -> String {
        format!("postgres://loms@127.0.0.1:{}/", self.port)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn stop(&mut self, how: Stop) {
        let mut process = self.process.take().expect("the server runs");
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
            Stop::Kill => "KILL",
        };
        signal_process(process.id(), signal);
        let ended = wait_at_most(&mut process, STOP_TIME_MAX);
        if ended.is_none() {
            signal_process(process.id(), "KILL");
            let _ = process.wait();
            panic!("the server did not stop within {STOP_TIME_MAX:?}:\n{}", self.log());
        }
    }

    /// Whether it has ended by itself; then it may be started again.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.process.as_mut().is_none_or(|process| process.try_wait().expect("a child's state").is_some());
        if ended {
            self.process = None;
        }
        ended
    }

    /// Starts the stopped or killed server again, on the same port and files.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the server still runs");
        let deadline = Instant::now() + START_TIME_MAX;
        // After a kill, the last of its processes may still hold the shared memory for a moment.
        while !self.try_start() {
            assert!(Instant::now() < deadline, "the server does not start again:\n{}", self.log());
            pause();
        }
    }

    /// Whether it got as far as to take connections. Where it ended first, its log tells why.
    fn try_start(&mut self) -> bool {
        let log_path = self.log_path();
        let log = File::create(&log_path).expect("a log file");
        let folder = self.folder.path().display().to_string();
        let process = self
            .program("postgres")
            .args(["-D", "state", "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "shared_buffers=32MB"])
            .args(["-c", "max_connections=100", "-c", "listen_addresses=127.0.0.1", "-c", "logging_collector=off"])
            .arg("-c")
            .arg(format!("port={}", self.port))
            .arg("-c")
            .arg(format!("unix_socket_directories={folder}"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        let process = self.process.insert(process.expect("postgres runs"));

        let deadline = Instant::now() + START_TIME_MAX;
        while Instant::now() < deadline {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            if log.contains("ready to accept connections") {
                return true;
            }
            if process.try_wait().expect("a child's state").is_some() {
                self.process = None;
                return false;
            }
            pause();
        }
        panic!("the server neither started nor failed within {START_TIME_MAX:?}:\n{}", self.log());
    }

    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.folder.path());
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal_process(process.id(), "QUIT");
            if wait_at_most(&mut process, STOP_TIME_MAX).is_none() {
                signal_process(process.id(), "KILL");
                let _ = process.wait();
            }
        }
    }
}

/// Sends a signal to a child that was not waited for yet: its id cannot be another's.
pub fn signal_process(id: u32, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(id.to_string()).status();
    assert!(sent.expect("kill runs").success(), "no process {id}");
}

/// `None` where the child still runs at the end of the limit.
pub fn wait_at_most(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        let status = child.try_wait().expect("a child's state");
        if status.is_some() || Instant::now() >= deadline {
            return status;
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "between two looks at another process, whose end wakes nobody here")]
fn pause() {
    std::thread::sleep(LOOK_AGAIN_AFTER);
}

/// The newest of Debian's versions, else what the PATH has.
pub fn find_programs() -> Option<PathBuf> {
    let version = |folder: &Path| folder.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed
        .map(|entry| entry.path().join("bin"))
        .filter(|programs| programs.join("initdb").exists())
        .max_by_key(|programs| version(programs));
    newest.or_else(|| {
        let path = std::env::var_os("PATH")?;
        let initdb = std::env::split_paths(&path).map(|folder| folder.join("initdb")).find(|file| file.exists())?;
        Some(initdb.canonicalize().ok()?.parent()?.to_owned())
    })
}

/// The kernel's choice; free again once the listener is gone.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.trim_ascii() == b"0"
}

#[test]
fn what_was_committed_survives_every_way_to_stop() {
    use super::postgres::{Database, block_on};
    use sqlx::{Connection as _, Executor as _, PgConnection};

    let Some(mut server) = PrivateServer::start() else { return };
    let database = Database::create_on(&server.url());
    assert!(database.url().contains(&server.address().to_string()));
    let run = |statement: &'static str| {
        let url = database.url();
        block_on(async move { PgConnection::connect(&url).await?.execute(statement).await.map(|_| ()) })
    };
    run("create table kept (number bigint primary key)").expect("created");

    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        run("insert into kept select count(*) from kept").expect("inserted");
        server.stop(how);
        assert!(run("select 1").is_err(), "it still answers after {how:?}");
        server.restart();
    }
    let url = database.url();
    let count = "select count(*) from kept";
    let kept = block_on(async move {
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut PgConnection::connect(&url).await?).await
    });
    assert_eq!(kept.expect("counted"), 3);
}
