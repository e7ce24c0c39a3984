//! A machine that sleeps, as a virtual one does that is halted and resumed: the clock has gone on, and timers have not.

use std::time::Duration;

use crate::support::client::{Client, eventually};
use crate::support::fragile_shop::{Ground, Shop, available, on_each_store, order_of, path_of, skus};
use crate::support::in_process::InProcess;
use crate::support::program::Settings;

const ON_HAND: i64 = 10;
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// Before its timer, an order is looked at each second when it is two seconds late.
const PATIENCE: Duration = Duration::from_secs(20);

async fn what_fell_due_while_the_machine_slept_is_cancelled_when_it_wakes(ground: Ground) {
    let mut shop = Shop::open(ground, &skus(1, ON_HAND), Settings::new());
    assert!(shop.program.terminate().success());
    let program = InProcess::start(&shop, PAYMENT_TIMEOUT);
    let client = Client::new(program.url());
    let order = client.post("/orders", &order_of("ann", "S0", 1)).await;
    assert_eq!(order.status, 201, "{order:?}");
    program.traps.sleep(PAYMENT_TIMEOUT / 2);
    let later = client.post("/orders", &order_of("bob", "S0", 1)).await;
    program.traps.sleep(PAYMENT_TIMEOUT / 2 + Duration::from_secs(1));

    let is_cancelled = async || client.get(&path_of(&order.body)).await.body["reason"] == "payment_timeout";
    assert!(eventually(PATIENCE, is_cancelled).await, "it waits for its timer");
    assert_eq!(client.get(&path_of(&later.body)).await.body["status"], "awaiting_payment", "it had time left");
    assert_eq!(available(&client, "S0").await, ON_HAND - 1);
    program.stop();
    shop.program.restart();
    shop.verify();
}

on_each_store!(what_fell_due_while_the_machine_slept_is_cancelled_when_it_wakes);
