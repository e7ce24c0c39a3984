//! The program is told to stop.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::private_server::{signal_process, wait_at_most};
use crate::support::program::without_settings;

const STOP_TIME_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_stop_while_it_starts_ends_it() {
    // The system takes the connection, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let database = format!("postgres://loms@{}/loms", silent.local_addr().expect("its address"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loms"));
    without_settings(&mut command);
    command.current_dir(folder.path()).env("LOMS_LISTEN", "127.0.0.1:0").env("DATABASE_URL", database);
    let mut program = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    let _asked = silent.accept().expect("it connects");
    signal_process(program.id(), "TERM");
    let ended = wait_at_most(&mut program, STOP_TIME_MAX);
    if ended.is_none() {
        program.kill().expect("killed");
    }
    let output = program.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(ended.is_some_and(|status| status.success()) && !text.contains("panicked"), "{ended:?}: {text}");
}
