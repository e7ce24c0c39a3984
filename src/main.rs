//! Reads the command line, runs the command, and says how it ended.

use std::process::ExitCode;

use clap::Parser;
use loms::commands::{self, CommandLine};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    match actix_rt::System::new().block_on(commands::run(command_line)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loms: {error:#}");
            ExitCode::FAILURE
        }
    }
}
