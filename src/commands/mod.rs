//! What each sub-command does.

pub mod notifications;
pub mod product_service;
pub mod replay;
pub mod serve;
pub mod stock;
pub mod verify;

use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use secrecy::ExposeSecret;

use crate::config::{BaseFlags, Flags, LOG, LOG_OF_REPLAY, ServeFlags, Settings, WITHOUT_FLAG};
use crate::notifications::asyncapi;
use crate::{http, store, telemetry};

/// An order backend for shops: carts, orders and stock, as actors over one durable journal.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = WITHOUT_FLAG)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the HTTP API (the same as no command).
    #[command(after_help = WITHOUT_FLAG)]
    Serve(ServeFlags),
    /// Brings the database to the present schema.
    Migrate(Flags),
    /// Changes stock.
    #[command(subcommand)]
    Stock(Stock),
    /// Checks the books in the database; exits with 1 where they do not add up.
    Verify(Flags),
    /// Plays recorded shop orders through the HTTP API, and prints a report.
    Replay {
        #[command(flatten)]
        arguments: replay::Arguments,
        #[command(flatten)]
        flags: Flags,
    },
    /// Serves a catalogue under the protocol of the ProductService. Clients must send PRODUCT_SERVICE_TOKEN, a setting
    /// without a flag; where it is not set, every token is right.
    ProductService {
        /// Where to serve; port 0 takes a free one.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
        listen: SocketAddr,
        /// The catalogue, CSV `sku,name,price_minor_units`. [default: a demo shop's]
        #[arg(long, value_name = "FILE")]
        catalog: Option<String>,
        #[command(flatten)]
        base: BaseFlags,
    },
    /// Consumes events from RabbitMQ and notifies users.
    #[command(after_help = WITHOUT_FLAG)]
    Notifications {
        #[command(subcommand)]
        command: Option<Notifications>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Prints the OpenAPI document of the HTTP API.
    Openapi,
    /// Prints the AsyncAPI document of the events.
    Asyncapi,
}

#[derive(Debug, Subcommand)]
enum Notifications {
    /// Puts parked messages back into the queue: all of them, or those with these event ids.
    Redrive {
        #[arg(value_name = "EVENT_ID")]
        ids: Vec<String>,
        /// Only shows what is parked.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Stock {
    /// Imports stock counts from CSV `sku,warehouse_id,on_hand`: all rows, or none.
    Import {
        file: PathBuf,
        #[command(flatten)]
        flags: Flags,
    },
}

/// Runs the command; gives whether it found everything right.
///
/// # Errors
/// A sentence for the user.
pub async fn run(command_line: CommandLine) -> anyhow::Result<bool> {
    match command_line.command.unwrap_or(Command::Serve(command_line.serve)) {
        Command::Serve(flags) => serve::run(&load(&flags)?).await.map(|()| true),
        Command::Migrate(flags) => {
            open_store(&load(&ServeFlags::of(flags))?).await?;
            writeln!(stdout(), "the database is at the present schema")?;
            Ok(true)
        }
        Command::Stock(Stock::Import { file, flags }) => {
            let settings = load(&ServeFlags::of(flags))?;
            stock::import(&*open_store(&settings).await?, &file).await.map(|()| true)
        }
        Command::Verify(flags) => {
            let settings = load(&ServeFlags::of(flags))?;
            let store = store::open_existing(settings.database_url.expose_secret()).await.context("DATABASE_URL")?;
            verify::run(&*store).await
        }
        Command::Replay { arguments, flags } => {
            let settings = load_with_log(&ServeFlags::of(flags), LOG_OF_REPLAY)?;
            replay::system::run_and_report(&arguments, settings).await
        }
        Command::ProductService { listen, catalog, base } => {
            let flags = ServeFlags { catalog, ..ServeFlags::of(Flags { base, ..Flags::default() }) };
            let settings = load(&flags)?;
            let token = Some(settings.product_service_token).filter(|token| !token.expose_secret().is_empty());
            product_service::run(listen, settings.catalog.as_deref(), token).await?;
            Ok(true)
        }
        Command::Notifications { command: None, flags } => {
            let settings = load(&ServeFlags::of(flags))?;
            let store = open_store(&settings).await?;
            notifications::run(&settings, store).await.map(|()| true)
        }
        Command::Notifications { command: Some(Notifications::Redrive { ids, dry_run }), flags } => {
            let settings = load(&ServeFlags::of(flags))?;
            notifications::redrive(&settings, &ids, dry_run).await.map(|()| true)
        }
        Command::Asyncapi => {
            writeln!(stdout(), "{:#}", asyncapi::document())?;
            Ok(true)
        }
        Command::Openapi => {
            writeln!(stdout(), "{}", http::openapi().to_pretty_json()?)?;
            Ok(true)
        }
    }
}

fn load(flags: &ServeFlags) -> anyhow::Result<Settings> {
    load_with_log(flags, LOG)
}

fn load_with_log(flags: &ServeFlags, log: &str) -> anyhow::Result<Settings> {
    let settings = Settings::load(flags, log)?;
    telemetry::log(&settings.log)?;
    Ok(settings)
}

/// The database at the present schema.
async fn open_store(settings: &Settings) -> anyhow::Result<std::sync::Arc<dyn store::Store>> {
    let store = store::open(settings.database_url.expose_secret()).await.context("DATABASE_URL")?;
    store.migrate().await.context("DATABASE_URL")?;
    Ok(store)
}
