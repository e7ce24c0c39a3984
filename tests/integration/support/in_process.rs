//! The program within the test's own process, wired by `Application` as ever, over a store and a
//! clock that panic where a test says so. It serves the same shop as the real program did before.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loms::application::Application;
use loms::config::Settings;
use loms::notifications::channels;
use tokio::sync::oneshot;

use super::fragile_shop::Shop;
use super::traps::{MAIN_THREAD, TrappedClock, TrappedStore, Traps};

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

pub struct InProcess {
    pub traps: Arc<Traps>,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    /// Gives why it ended, where it was not told to.
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl InProcess {
    /// On the shop's database, which the shop's own program has left.
    pub fn start(shop: &Shop, payment_timeout: Duration) -> Self {
        let traps = Arc::new(Traps::default());
        let (settings, trapped) = (settings(shop, payment_timeout), Arc::clone(&traps));
        let (announce, announced) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(MAIN_THREAD.to_owned()).spawn(move || {
            actix_rt::System::new().block_on(async move {
                let clock = Arc::new(TrappedClock(Arc::clone(&trapped)));
                let before = move |store| Arc::new(TrappedStore { store, traps: trapped }) as _;
                let application = Application::build_over(&settings, clock, before).await.expect("built");
                announce.send(format!("http://{}", application.address())).expect("somebody waits for it");
                let stopped = async {
                    let _ = stopped.await;
                };
                application.run_until(stopped).await.map_err(|error| error.to_string())
            })
        });
        let url = announced.recv().expect("it serves");
        Self { traps, url, stop: Some(stop), thread: Some(thread.expect("a thread")) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it has ended by itself; gives why.
    ///
    /// # Panics
    /// Where it does not within the limit.
    pub async fn ends_within(&mut self, limit: Duration) -> String {
        let thread = self.thread.take().expect("it runs");
        let began = Instant::now();
        while !thread.is_finished() {
            assert!(began.elapsed() < limit, "it goes on after a panic in a part that it cannot do without");
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        thread.join().expect("no panic on the main thread").expect_err("it was not told to end")
    }

    /// Ends it in good order.
    pub fn stop(mut self) {
        self.stop.take().expect("it runs").send(()).expect("it runs");
        self.thread.take().expect("it runs").join().expect("no panic").expect("in good order");
    }
}

fn settings(shop: &Shop, payment_timeout: Duration) -> Settings {
    let variable = |name: &str| shop.program.variable(name).map(str::to_owned);
    let sqlite = format!("sqlite://{}", shop.program.folder().join("data/loms.db").display());
    Settings {
        database_url: variable("DATABASE_URL").unwrap_or(sqlite).into(),
        amqp_url: None,
        channels: channels::Settings::default(),
        product_service_url: None,
        product_service_token: String::new().into(),
        product_service_calls_per_second: 10,
        listen: ([127, 0, 0, 1], 0).into(),
        catalog: variable("LOMS_CATALOG").map(Into::into),
        stock: None,
        payment_timeout,
        currency: iso_currency::Currency::RUB,
        log: "warn".to_owned(),
    }
}
