//! The wiring: what starts in which order, on which threads, and how it stops.
//!
//! StockKeeper, Journal and outbox relay share a thread, off which nobody's timers depend; carts and orders live
//! on the HTTP workers that first asked for them; reading connections live on one I/O runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter};
use actix_web::dev::{Server, ServerHandle};
use actix_web::web;
use anyhow::{Context, anyhow, bail};
use futures_util::future::select_all;
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::actors::directory::Directory;
use crate::actors::journal::{self, Health, Journal};
use crate::actors::lease::{self, Lease};
use crate::actors::order_ids::OrderIds;
use crate::actors::outbox_relay::{self, Backlog, OutboxRelay};
use crate::actors::recent_orders::{self, RecentOrders};
use crate::actors::stock_keeper::StockKeeper;
use crate::actors::{COMMANDS_UNDER_WAY_MAX, Core, deadlines};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::domain::Sku;
use crate::domain::stock::Shelf;
use crate::http::{self, Api, Watched};
use crate::io_runtime::IoRuntime;
use crate::notifications::Outlet;
use crate::notifications::in_process::{self, InProcess, Retries};
use crate::notifications::notifier::Notifier;
use crate::notifications::publisher::Publisher;
use crate::products::{Catalogue, Client, Limits, Products};
use crate::store::{self, Change, ShelfEdit, StockEdit, Store, WriterIdentity, in_time};
use crate::{demo, packed_file, stock_file, telemetry};

/// Admitted commands are answered within this time after the program was told to stop.
const DRAIN_MS_MAX: u64 = 15_000;
/// The relay and the Journal each end within this time.
const CLOSE_MS_MAX: u64 = 10_000;
const SHELVES_PAGE: u32 = 10_000;

/// A running system, from its database to its address.
pub struct Application {
    address: SocketAddr,
    server: Server,
    api: web::Data<Api>,
    relay: Addr<OutboxRelay>,
    /// Of the StockKeeper, the Journal and the outbox relay.
    thread: Arbiter,
    /// Without a broker.
    retries: Option<Retries>,
    lifelines: Vec<Lifeline>,
    io: IoRuntime,
}

/// Of a part without which the process must not go on: it ends when the part does, however that ends.
struct Lifeline {
    part: &'static str,
    ends: oneshot::Receiver<()>,
}

impl Application {
    /// Starts everything and listens; nothing is accepted before [`Application::run_until`].
    ///
    /// # Errors
    /// A sentence that names what is missing: the database, the folder, the port, a file.
    pub async fn build(settings: &Settings) -> anyhow::Result<Self> {
        Self::build_over(settings, Arc::new(SystemClock), |store| store).await
    }

    /// The same with another clock, and with something between the program and its database.
    ///
    /// # Errors
    /// As [`Application::build`].
    pub async fn build_over(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        before: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> anyhow::Result<Self> {
        let runtime = IoRuntime::start()?;
        let io = runtime.handle().clone();
        let metrics = telemetry::metrics()?;
        // Before anything is written: a taken port is the likeliest mistake.
        let listener = http::listen(settings.listen)
            .with_context(|| format!("LOMS_LISTEN: cannot listen on {}", settings.listen))?;
        let address = listener.local_addr()?;
        let products = products(settings, io.clone())?;
        let store = before(open_store(settings, &io).await?);
        let health = Arc::new(Health::default());

        let thread = Arbiter::new();
        let (journal, identity, lease, journal_ends) =
            start_journal(&thread, Arc::clone(&store), Arc::clone(&clock), Arc::clone(&health)).await?;
        import_first_stock(settings, &store, &io, &journal).await?;
        let shelves = load_shelves(&store, &io).await?;
        let (stock_keeper, keeper_ends) = start_stock_keeper(&thread, shelves, journal.clone());
        let outbox = Outbox { settings, store: &store, io: &io, clock: &clock };
        let (outlet, retries) = outbox.outlet(identity)?;
        let (retries, retries_end) = retries.unzip();
        let (relay, backlog, relay_ends) = outbox.start_relay(&thread, outlet, journal.clone(), identity).await?;

        let order_ids = OrderIds::new(Arc::clone(&store), io.clone(), Arc::clone(&health));
        let (directory, recent_orders) = (Directory::default(), RecentOrders::new(recent_orders::SLOTS));
        let expiring = deadlines::Turns::default();
        let core = Arc::new(Core {
            store,
            io,
            clock,
            journal,
            stock_keeper,
            order_ids,
            directory,
            recent_orders,
            expiring,
            lease,
        });
        let payment_timeout = chrono::TimeDelta::from_std(settings.payment_timeout)?;
        let watched = Watched { health, backlog, has_broker: settings.amqp_url.is_some(), metrics };
        let api = web::Data::new(Api::new(core, products, settings.currency, payment_timeout, watched));
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let server = http::serve(api.clone(), listener, workers)?;
        let lifelines = [journal_ends, keeper_ends, relay_ends].into_iter().chain(retries_end).collect();
        Ok(Self { address, server, api, relay, thread, retries, lifelines, io: runtime })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` comes true, then finishes what was admitted and ends in order.
    ///
    /// # Errors
    /// Where a part that everything stands on has ended: the process must be started again.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { server, api, relay, thread, retries, mut lifelines, io, .. } = self;
        let handle = server.handle();
        let serving = actix_rt::spawn(server);
        let (held, deadlines_end) = Lifeline::of("the minding of deadlines");
        lifelines.push(deadlines_end);
        let deadlines = actix_rt::spawn(held_by(held, deadlines::mind(Arc::clone(&api.core))));
        let (held, watch_ends) = Lifeline::of("the watch for other processes");
        lifelines.push(watch_ends);
        let watch = lease::keep(Arc::clone(&api.core), Arc::clone(&api.watched.health));
        let watch = actix_rt::spawn(held_by(held, watch));
        let upkeep = actix_rt::spawn(telemetry::keep_up(api.watched.metrics.clone()));
        let outcome = tokio::select! {
            () = stop => Ok(()),
            part = first_end(lifelines) => Err(anyhow!("{part} has ended; start the program again")),
        };
        tracing::info!("stopping");
        deadlines.abort();
        watch.abort();
        upkeep.abort();
        // What is being sent ends while the last commands are answered.
        retries.iter().for_each(Retries::stop);
        drain(&handle, &api).await;
        handle.stop(true).await;
        serving.await.context("the HTTP server was torn off")??;
        if outcome.is_ok() {
            // First the relay: the journal's last batch keeps how far it has come.
            close("outbox relay", |closed| relay.try_send(outbox_relay::Close(closed)).is_ok()).await;
            close("journal", |closed| api.core.journal.try_send(journal::Close(closed)).is_ok()).await;
        }
        let store = Arc::clone(&api.core.store);
        // The task ends on the runtime that owns the connections.
        let closed = io.handle().spawn(async move {
            if let Some(retries) = retries {
                retries.ended().await;
            }
            store::close(&*store).await;
        });
        let _ = closed.await;
        thread.stop();
        outcome
    }
}

impl Lifeline {
    /// What the part holds as long as it lives, and what ends with it.
    fn of(part: &'static str) -> (oneshot::Sender<()>, Self) {
        let (held, ends) = oneshot::channel();
        (held, Self { part, ends })
    }
}

/// A part that is a task and no actor; a panic drops what it holds, as its end does.
async fn held_by(lifeline: oneshot::Sender<()>, part: impl Future<Output = ()>) {
    part.await;
    drop(lifeline);
}

/// Gives the part that ends first.
async fn first_end(lifelines: Vec<Lifeline>) -> &'static str {
    let end = |Lifeline { part, ends }| {
        Box::pin(async move {
            // Nobody sends anything: it is dropped.
            let _ = ends.await;
            part
        })
    };
    select_all(lifelines.into_iter().map(end)).await.0
}

/// Takes no more and waits for the answers to what was admitted.
async fn drain(handle: &ServerHandle, api: &Api) {
    handle.pause().await;
    api.gate.close();
    let began = Instant::now();
    while api.gate.admissible() < COMMANDS_UNDER_WAY_MAX {
        if began.elapsed() > Duration::from_millis(DRAIN_MS_MAX) {
            tracing::warn!("some commands were not answered in time");
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn close(actor: &str, ask: impl FnOnce(oneshot::Sender<()>) -> bool) {
    let (closed, closes) = oneshot::channel();
    if ask(closed) && tokio::time::timeout(Duration::from_millis(CLOSE_MS_MAX), closes).await.is_err() {
        tracing::warn!(actor, "it did not close in time");
    }
}

/// An outlet, and without a broker the task that tries again what failed.
type Opened = (Box<dyn Outlet>, Option<(Retries, Lifeline)>);

/// What the outbox relay is made of.
struct Outbox<'a> {
    settings: &'a Settings,
    store: &'a Arc<dyn Store>,
    io: &'a Handle,
    clock: &'a Arc<dyn Clock>,
}

impl Outbox<'_> {
    async fn start_relay(
        &self,
        thread: &Arbiter,
        outlet: Box<dyn Outlet>,
        journal: Addr<Journal>,
        identity: WriterIdentity,
    ) -> anyhow::Result<(Addr<OutboxRelay>, Arc<Backlog>, Lifeline)> {
        let store = Arc::clone(self.store);
        let published = self.io.spawn(async move { in_time(store.published(identity.writer_id)).await }).await??;
        let backlog = Arc::new(Backlog::default());
        let (store, io, clock) = (Arc::clone(self.store), self.io.clone(), Arc::clone(self.clock));
        let resources = outbox_relay::Resources { store, io, clock };
        let watched = Arc::clone(&backlog);
        let (lifeline, ends) = Lifeline::of("the outbox relay");
        let relay = OutboxRelay::start_in_arbiter(&thread.handle(), move |_| {
            OutboxRelay::new(outlet, resources, journal, published, watched, lifeline)
        });
        Ok((relay, backlog, ends))
    }

    /// RabbitMQ; or without it the notifier in this process, which tries again what failed as long as
    /// the lifeline holds.
    fn outlet(&self, identity: WriterIdentity) -> anyhow::Result<Opened> {
        if let Some(url) = &self.settings.amqp_url {
            let publisher = Publisher::new(url.clone(), self.settings.currency.code().to_owned());
            return Ok((Box::new(publisher), None));
        }
        let (store, clock) = (Arc::clone(self.store), Arc::clone(self.clock));
        let notifier = Arc::new(Notifier::new(
            self.settings.channels.open(self.settings.currency, &clock)?,
            store.clone(),
            clock.clone(),
        ));
        let (lifeline, ends) = Lifeline::of("the notifier");
        let retry = in_process::retry(Arc::clone(&notifier), store, clock, identity.writer_id);
        let retries = Retries { notifier: Arc::clone(&notifier), task: self.io.spawn(held_by(lifeline, retry)) };
        Ok((Box::new(InProcess(notifier)), Some((retries, ends))))
    }
}

fn products(settings: &Settings, io: Handle) -> anyhow::Result<Products> {
    match &settings.product_service_url {
        Some(url) => {
            let limits =
                Limits { calls_per_second_max: settings.product_service_calls_per_second, ..Limits::default() };
            let client = Client::new(url, settings.product_service_token.clone(), io, limits);
            Ok(Products::Remote(client.context("PRODUCT_SERVICE_URL")?))
        }
        None => {
            let catalogue = settings.catalog.as_deref().map_or_else(|| Ok(Catalogue::demo()), Catalogue::from_path);
            Ok(Products::BuiltIn(Arc::new(catalogue.context("LOMS_CATALOG")?)))
        }
    }
}

async fn open_store(settings: &Settings, io: &Handle) -> anyhow::Result<Arc<dyn Store>> {
    let url = settings.database_url.clone();
    let opened = io.spawn(async move {
        let store = store::open(url.expose_secret()).await?;
        store.migrate().await?;
        Ok::<_, store::OpenError>(store)
    });
    opened.await?.context("DATABASE_URL")
}

/// The Journal opens its connection on the thread that it lives on.
async fn start_journal(
    thread: &Arbiter,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
) -> anyhow::Result<(Addr<Journal>, WriterIdentity, Lease, Lifeline)> {
    let (lifeline, ends) = Lifeline::of("the journal");
    let (started, starting) = oneshot::channel();
    thread.spawn(async move {
        // Whoever asked has given up where nobody listens.
        let _ = started.send(Journal::open(store, clock, health, lifeline).await);
    });
    let (journal, identity, lease) = starting.await?.context("DATABASE_URL")?;
    Ok((journal, identity, lease, ends))
}

fn start_stock_keeper(
    thread: &Arbiter,
    shelves: Vec<(Sku, Shelf)>,
    journal: Addr<Journal>,
) -> (Addr<StockKeeper>, Lifeline) {
    let (lifeline, ends) = Lifeline::of("the stock keeper");
    let stock_keeper =
        StockKeeper::start_in_arbiter(&thread.handle(), move |_| StockKeeper::new(shelves, journal, lifeline));
    (stock_keeper, ends)
}

/// Stock for a database that nobody has used yet: the configured file's, or the demo shop's where
/// its catalogue sells out of the embedded database.
async fn import_first_stock(
    settings: &Settings,
    store: &Arc<dyn Store>,
    io: &Handle,
    journal: &Addr<Journal>,
) -> anyhow::Result<()> {
    let sells_demo = settings.is_embedded() && settings.catalog.is_none() && settings.product_service_url.is_none();
    let csv = match &settings.stock {
        Some(path) => packed_file::read(path).with_context(|| format!("LOMS_STOCK: cannot read {}", path.display()))?,
        None if sells_demo => demo::STOCK_CSV.as_bytes().to_vec(),
        None => return Ok(()),
    };
    let rows = stock_file::parse(&csv).map_err(|errors| anyhow!("LOMS_STOCK: {}", errors[0]))?;
    let reader = Arc::clone(store);
    let is_empty = io.spawn(async move { in_time(reader.is_empty()).await }).await??;
    if !is_empty && settings.stock.is_some() {
        tracing::info!("LOMS_STOCK is not imported, for the database is in use; `loms stock import` does it");
    }
    if !is_empty || rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<ShelfEdit> = rows.into_iter().map(|(_, row)| row).collect();
    let shelves = rows.len();
    let (answer, answered) = oneshot::channel();
    // Another process may have begun the same shelves since, and have sold from them.
    let change = Change::StockEdited { edit: StockEdit::Begin(rows), key: None };
    if journal.try_send(journal::Write { change, answer }).is_err() || answered.await?.is_err() {
        bail!("the stock for the empty database could not be imported");
    }
    tracing::info!(shelves, "imported stock into the empty database");
    Ok(())
}

async fn load_shelves(store: &Arc<dyn Store>, io: &Handle) -> anyhow::Result<Vec<(Sku, Shelf)>> {
    let store = Arc::clone(store);
    let loading = io.spawn(async move {
        let mut shelves: Vec<(Sku, Shelf)> = Vec::new();
        loop {
            let page = in_time(store.shelves_after(shelves.last(), SHELVES_PAGE)).await?;
            let last = page.len() < SHELVES_PAGE as usize;
            shelves.extend(page);
            if last {
                return Ok::<_, store::StoreError>(shelves);
            }
        }
    });
    loading.await?.context("DATABASE_URL")
}
