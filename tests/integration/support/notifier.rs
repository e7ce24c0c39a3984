//! `loms notifications` as a process beside a shop.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::private_server::{signal_process, wait_at_most};
use super::program::{Program, without_settings};

const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// Killed with the last of its copies.
#[derive(Clone)]
pub struct Notifier(Arc<Killed>);

struct Killed(Mutex<Child>);

impl Notifier {
    /// Takes events from this broker, on the program's database and in its folder.
    pub fn start(program: &Program, amqp_url: &str, settings: &[(&str, &str)]) -> Self {
        let database_url = program.variable("DATABASE_URL").expect("a program with a database of its own");
        let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
        without_settings(&mut command);
        let process = command
            .arg("notifications")
            .envs([("DATABASE_URL", database_url), ("AMQP_URL", amqp_url), ("LOMS_LOG", "warn")])
            .envs(settings.iter().copied())
            .current_dir(program.folder())
            .stdin(Stdio::null())
            .spawn();
        Self(Arc::new(Killed(Mutex::new(process.expect("the notifier starts")))))
    }

    /// SIGKILL, at once: it has gone when this returns.
    pub fn kill(&self) {
        let mut process = self.process();
        process.kill().expect("killed");
        process.wait().expect("ended");
    }

    /// SIGTERM, as a service manager sends it.
    pub fn terminate(&self) -> ExitStatus {
        let mut process = self.process();
        signal_process(process.id(), "TERM");
        wait_at_most(&mut process, STOP_TIME_MAX).expect("it ends in time")
    }

    pub fn has_ended(&self) -> bool {
        self.process().try_wait().expect("a child's state").is_some()
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let process = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}
