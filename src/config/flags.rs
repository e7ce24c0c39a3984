//! Settings given on the command line. What is a secret by its nature has no flag, for other users of the machine can
//! read a command line.

use std::path::PathBuf;

/// What is said of those that have none, below the flags.
pub const WITHOUT_FLAG: &str = "AMQP_URL, PRODUCT_SERVICE_TOKEN, PRODUCT_SERVICE_CALLS_PER_SECOND and the settings of \
webhook and e-mail have no flags. Set them in the environment, in .env or in the settings file (config.example.yaml has all \
of them); there, too, belongs a DATABASE_URL with a password, for others can read a command line.";

/// What every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BaseFlags {
    /// The settings file. [default: config.yaml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log: `info`, `loms=debug`, … [default: info; warn for a replay]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// What every command takes that opens the database.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    #[command(flatten)]
    pub base: BaseFlags,
    /// `sqlite://FILE` or `postgres://…`. [default: sqlite://data/loms.db]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
}

/// Further settings of `loms serve`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeFlags {
    #[command(flatten)]
    pub flags: Flags,
    /// Where to serve; port 0 takes a free one. [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// An external ProductService; without it, the catalogue sells.
    #[arg(long, value_name = "URL")]
    pub product_service_url: Option<String>,
    /// The catalogue, CSV `sku,name,price_minor_units`. [default: a demo shop's]
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<String>,
    /// Stock for an empty database, CSV `sku,warehouse_id,on_hand`.
    #[arg(long, value_name = "FILE")]
    pub stock: Option<String>,
    /// How long an order awaits its payment. [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub payment_timeout: Option<String>,
    /// ISO 4217. [default: RUB]
    #[arg(long, value_name = "CODE")]
    pub currency: Option<String>,
}

impl ServeFlags {
    /// Only what every command takes that opens the database.
    #[must_use]
    pub fn of(flags: Flags) -> Self {
        Self { flags, ..Self::default() }
    }

    /// By the names that they have in the file.
    pub(super) fn given(&self) -> [(&'static str, Option<String>); 8] {
        [
            ("database_url", self.flags.database_url.clone()),
            ("log", self.flags.base.log.clone()),
            ("listen", self.listen.clone()),
            ("product_service_url", self.product_service_url.clone()),
            ("catalog", self.catalog.clone()),
            ("stock", self.stock.clone()),
            ("payment_timeout", self.payment_timeout.clone()),
            ("currency", self.currency.clone()),
        ]
    }
}
