//! `docker-compose.yml` without Docker: each service's own command, environment and health check, with
//! private servers in place of the images, and loopback ports in place of the names of hosts.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yaml_rust2::{Yaml, YamlLoader};

use crate::support::client::{Client, eventually};
use crate::support::postgres::Database;
use crate::support::private_rabbitmq::PrivateRabbit;
use crate::support::private_server::find_programs;
use crate::support::tcp_proxy::TcpProxy;

const PATIENCE: Duration = Duration::from_secs(60);

/// A service as the file has it, with other places.
struct Service {
    name: &'static str,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// The program that tells whether it is well, and its arguments.
    health_check: Vec<String>,
}

/// Killed with this value.
struct Running {
    process: Child,
    _folder: TempDir,
}

/// What stands in the file, and what stands for it here.
struct Places(Vec<(&'static str, String)>);

impl Places {
    fn here(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compose() -> Yaml {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).expect("the file");
    YamlLoader::load_from_str(&text).expect("YAML").swap_remove(0)
}

fn texts(list: &Yaml) -> Vec<String> {
    list.as_vec().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

impl Service {
    fn of(compose: &Yaml, name: &'static str, places: &Places) -> Self {
        let service = &compose["services"][name];
        assert!(!service.is_badvalue(), "there is no service {name}");
        let here = |texts: Vec<String>| texts.iter().map(|text| places.here(text)).collect::<Vec<_>>();
        let pair = |(name, value): (&Yaml, &Yaml)| {
            let value = places.here(value.as_str().expect("a text"));
            (name.as_str().expect("a text").to_owned(), value)
        };
        let environment = service["environment"].as_hash().into_iter().flatten().map(pair).collect();
        let mut health_check = here(texts(&service["healthcheck"]["test"]));
        if !health_check.is_empty() {
            assert_eq!(health_check.remove(0), "CMD", "{name}: not a command without a shell");
        }
        Self { name, command: here(texts(&service["command"])), environment, health_check }
    }

    /// In a folder of its own, as in an image.
    fn start(&self, program: &str) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command.args(&self.command).env_clear().env("PATH", path).envs(self.environment.iter().cloned());
        let process = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Running { process: process.expect("it starts"), _folder: folder }
    }

    fn is_well(&self) -> bool {
        let (program, arguments) = self.health_check.split_first().expect("a health check");
        let check = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        check.expect("it runs").success()
    }

    /// Unwell before the start, well some time after it: as what depends on it waits for.
    async fn start_and_wait(&self, program: &str) -> Running {
        assert!(!self.is_well(), "{}: its health check knows no ill", self.name);
        let running = self.start(program);
        assert!(eventually(PATIENCE, || async { self.is_well() }).await, "{} does not get well", self.name);
        running
    }

    async fn end(&self, running: Running) {
        drop(running);
        assert!(eventually(PATIENCE, || async { !self.is_well() }).await, "{} is well after its end", self.name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The kernel's choice; all are held until the last is chosen, so that they differ.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("its address").port())
}

/// The file on this side of `./demo/stock.csv:/demo/stock.csv:ro`.
fn mounted(compose: &Yaml, inside: &str) -> String {
    let volumes = texts(&compose["services"]["loms"]["volumes"]);
    let outside = volumes.iter().find_map(|volume| volume.split_once(&format!(":{inside}")));
    let path: PathBuf = root().join(outside.expect("a volume").0);
    assert!(path.exists(), "{}", path.display());
    path.display().to_string()
}

/// PostgreSQL's and RabbitMQ's own health checks, on the private servers.
fn assert_servers_are_well(compose: &Yaml, places: &Places, database: &Database, broker: &PrivateRabbit) {
    let postgres = Service::of(compose, "postgres", places);
    let port = database.url().rsplit_once(':').expect("a port").1.split('/').next().expect("a port").to_owned();
    let is_well = |port: &str| {
        let program = find_programs().expect("installed").join(&postgres.health_check[0]);
        let mut check = Command::new(program);
        check.args(&postgres.health_check[1..]).env("PGPORT", port).stdout(Stdio::null());
        check.status().expect("it runs").success()
    };
    assert!(is_well(&port) && !is_well("1"));

    let rabbitmq = Service::of(compose, "rabbitmq", places).health_check;
    let arguments: Vec<&str> = rabbitmq[1..].iter().map(String::as_str).collect();
    broker.tool(&rabbitmq[0], &arguments).expect("it is well");
}

async fn assert_sells_and_tells(client: &Client) {
    let order = json!({"user": "ann", "items": [{"sku": "MUG-01", "count": 1}]});
    let order = client.post("/orders", &order).await;
    assert_eq!(order.status, 201, "{}", order.body);
    client.post(&format!("/orders/{}/pay", order.body["order_id"]), &Value::Null).await;
    let told = || async {
        let listed = client.get("/notifications?user=ann").await.body;
        let sent = listed["notifications"].as_array().map(|all| all.iter().all(|one| one["outcome"] == "sent"));
        sent == Some(true) && listed["notifications"].as_array().map(Vec::len) == Some(2)
    };
    assert!(eventually(PATIENCE, told).await, "nobody is told: {}", client.get("/readyz").await.body);
    let ready = client.get("/readyz").await.body;
    assert_eq!((&ready["status"], &ready["broker"]), (&json!("ready"), &json!("up")), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_compose_file_make_a_shop_that_sells_and_tells() {
    let Some(database) = Database::create() else { return };
    let Some(mut broker) = PrivateRabbit::start_as_deployed(&root().join("rabbitmq")) else { return };
    let compose = compose();
    // The notifier's own way to the broker: its health check looks for a connection to that port.
    let proxy = TcpProxy::start(broker.address()).await;
    let [product_port, loms_port, front_port] = free_ports();
    let of_rabbit = |port: u16| format!("@127.0.0.1:{port}/");
    let mut places = Places(vec![
        ("postgres://loms:loms@postgres/loms", database.url()),
        ("@rabbitmq/", of_rabbit(broker.address().port())),
        ("http://product-service:8081", format!("http://127.0.0.1:{product_port}")),
        ("0.0.0.0:8081", format!("127.0.0.1:{product_port}")),
        ("127.0.0.1/8081", format!("127.0.0.1/{product_port}")),
        ("127.0.0.1/8080", format!("127.0.0.1/{loms_port}")),
        ("127.0.0.1:8080", format!("127.0.0.1:{loms_port}")),
        ("TCP-LISTEN:8000", format!("TCP-LISTEN:{front_port},bind=127.0.0.1")),
        ("/demo/stock.csv", mounted(&compose, "/demo/stock.csv")),
        (":1628 ", format!(":{:04X} ", proxy.address().port())),
    ]);
    assert_servers_are_well(&compose, &places, &database, &broker);

    let program = env!("CARGO_BIN_EXE_loms");
    let product_service = Service::of(&compose, "product-service", &places);
    let products = product_service.start_and_wait(program).await;
    let mut loms = Service::of(&compose, "loms", &places);
    // The default in the image, where port 8080 is free for certain.
    loms.environment.push(("LOMS_LISTEN".to_owned(), format!("127.0.0.1:{loms_port}")));
    let server = loms.start_and_wait(program).await;
    places.0[1].1 = of_rabbit(proxy.address().port());
    let notifications = Service::of(&compose, "notifications", &places);
    let notifier = notifications.start_and_wait(program).await;

    let client = Client::new(&format!("http://127.0.0.1:{loms_port}"));
    assert_sells_and_tells(&client).await;
    let front = Service::of(&compose, "front", &places);
    if Command::new("socat").arg("-V").stdout(Stdio::null()).status().is_ok() {
        let _running = front.start("socat");
        let through = Client::new(&format!("http://127.0.0.1:{front_port}"));
        let reached = || async {
            let request = through.request(reqwest::Method::GET, "/livez", None);
            request.send().await.is_ok_and(|answer| answer.status() == 200)
        };
        assert!(eventually(PATIENCE, reached).await, "not reached through the front");
    } else {
        eprintln!("skipped: the front, for socat is not installed");
    }

    notifications.end(notifier).await;
    loms.end(server).await;
    product_service.end(products).await;
    let check = texts(&compose["services"]["rabbitmq"]["healthcheck"]["test"]);
    broker.stop();
    broker.tool(&check[1], &["--quiet", &check[3]]).expect_err("it has ended");
}
