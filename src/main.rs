//! Reads the command line, runs the command, and says how it ended.

use std::process::ExitCode;

use clap::Parser;
use loms::commands::{self, CommandLine};
use loms::config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loms: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each once: some say their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    causes.reduce(|told, cause| if told.ends_with(&cause) { told } else { told + ": " + &cause }).unwrap_or_default()
}

fn run() -> anyhow::Result<bool> {
    // First, so that `--help` is given whatever the files hold.
    let command_line = CommandLine::parse();
    config::read_dot_env()?;
    actix_rt::System::new().block_on(commands::run(command_line))
}
