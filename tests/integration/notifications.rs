//! What users are told of their orders: once, whatever dies in between. Without a broker here, with
//! RabbitMQ in `messages`.

use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::client::{Client, eventually};
use crate::support::shop::{Shop, on_each_store};

/// Outcome, channel and status of each notification of a user, the oldest first.
async fn told(client: &Client, user: &str) -> Vec<(String, String, String)> {
    let listed = client.get(&format!("/notifications?user={user}&limit=500")).await;
    assert_eq!(listed.status, 200, "{}", listed.body);
    let text = |one: &Value, key: &str| one[key].as_str().expect("a text").to_owned();
    let mut told: Vec<_> = listed.body["notifications"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (text(one, "outcome"), text(one, "channel"), text(one, "status")))
        .collect();
    told.reverse();
    told
}

/// # Panics
/// Where it does not come true in time.
async fn wait_until(what: &str, look: impl AsyncFn() -> bool) {
    assert!(eventually(Duration::from_secs(20), || look()).await, "not in time: {what}");
}

fn by_log(statuses: &[&str]) -> Vec<(String, String, String)> {
    statuses.iter().map(|status| ("sent".to_owned(), "log".to_owned(), (*status).to_owned())).collect()
}

#[tokio::test]
async fn a_user_is_told_what_became_of_an_order() {
    on_each_store(async |shop: &mut Shop| {
        let order = shop.order("ann", &[("PEN", 1)]).await;
        let payed = shop.client.post(&format!("/orders/{}/pay", order["order_id"]), &Value::Null).await;
        assert_eq!(payed.status, 200, "{}", payed.body);
        let expected = by_log(&["awaiting_payment", "payed"]);
        wait_until("the user is told", async || told(&shop.client, "ann").await == expected).await;

        let failed =
            shop.client.post("/orders", &json!({"user": "bob", "items": [{"sku": "EMPTY", "count": 1}]})).await;
        assert_eq!(failed.status, 409, "{}", failed.body);
        wait_until("the failure is told", async || told(&shop.client, "bob").await == by_log(&["failed"])).await;
        assert_eq!(told(&shop.client, "nobody").await, []);
    })
    .await;
}

#[tokio::test]
async fn a_refused_payment_is_told_once_so_that_the_money_goes_back() {
    on_each_store(async |shop: &mut Shop| {
        let order = shop.order("ann", &[("PEN", 1)]).await;
        let path = format!("/orders/{}", order["order_id"]);
        assert_eq!(shop.client.post(&format!("{path}/cancel"), &Value::Null).await.status, 200);
        let history = shop.client.get(&format!("{path}/events")).await.body;
        let pay = async |shop: &Shop| {
            let payment = shop.client.post(&format!("{path}/pay"), &Value::Null).await;
            assert!(payment.is_refusal(409, "wrong_status"), "{payment:?}");
        };
        pay(shop).await;
        pay(shop).await;
        shop.restart();
        pay(shop).await;
        shop.order("ann", &[("PEN", 1)]).await;
        let expected = by_log(&["awaiting_payment", "cancelled", "payment_refused", "awaiting_payment"]);
        wait_until("the user is told", async || told(&shop.client, "ann").await == expected).await;
        assert_eq!(shop.client.get(&format!("{path}/events")).await.body, history, "it is no change of status");
    })
    .await;
}

#[tokio::test]
async fn nobody_is_told_twice_after_a_restart_or_a_kill() {
    on_each_store(async |shop: &mut Shop| {
        for _ in 0..20 {
            shop.order("ann", &[("PEN", 1)]).await;
        }
        let expected = by_log(&["awaiting_payment"; 20]);
        wait_until("the user is told", async || told(&shop.client, "ann").await == expected).await;
        shop.program.kill();
        shop.program.restart();
        shop.client = Client::new(shop.program.url());
        shop.order("bob", &[("PEN", 1)]).await;
        wait_until("the next one is told", async || told(&shop.client, "bob").await.len() == 1).await;
        shop.restart();
        shop.order("eve", &[("PEN", 1)]).await;
        wait_until("the next one is told", async || told(&shop.client, "eve").await.len() == 1).await;
        assert_eq!(told(&shop.client, "ann").await, expected);
        let ready = shop.client.get("/readyz").await;
        assert_eq!((ready.body["status"].as_str(), ready.body["broker"].as_str()), (Some("ready"), Some("built_in")));
    })
    .await;
}

#[tokio::test]
async fn a_page_of_notifications_goes_on_where_the_one_before_ended() {
    let shop = Shop::on_sqlite();
    for _ in 0..5 {
        shop.order("ann", &[("PEN", 1)]).await;
    }
    wait_until("the user is told", async || told(&shop.client, "ann").await.len() == 5).await;
    let mut seen = Vec::new();
    let mut next = Value::Null;
    loop {
        let after = next.as_i64().map_or_else(String::new, |next| format!("&after={next}"));
        let page = shop.client.get(&format!("/notifications?user=ann&limit=2{after}")).await;
        let ids = page.body["notifications"].as_array().expect("a list").clone();
        seen.extend(ids.iter().map(|one| one["notification_id"].as_i64().expect("an id")));
        next = page.body["next"].clone();
        if next.is_null() {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    sorted.dedup();
    assert_eq!((seen.len(), &seen), (5, &sorted), "newest first, none twice");
}

#[tokio::test]
async fn a_contact_is_kept_or_refused_by_name() {
    on_each_store(async |shop: &mut Shop| {
        let contact = json!({"email": "ann@shop.example", "locale": "ru"});
        let kept = shop.client.put("/users/ann/contact", &contact).await;
        assert_eq!(kept.status, 200, "{}", kept.body);
        assert_eq!(kept.body, json!({"user": "ann", "email": "ann@shop.example", "locale": "ru"}));
        for (contact, field) in [
            (json!({"email": "ann@shop.example", "locale": "xx"}), "locale"),
            (json!({"email": "not an address", "locale": "en"}), "email"),
            (json!({"email": "ann@shop.example\r\nBcc: eve@shop.example", "locale": "en"}), "email"),
        ] {
            let refused = shop.client.put("/users/ann/contact", &contact).await;
            assert_eq!(refused.status, 422, "{}", refused.body);
            assert!(refused.body["detail"].as_str().expect("a text").contains(field), "{}", refused.body);
        }
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_fails_is_called_again_under_the_same_id_and_then_no_more() {
    let receiver = MockServer::start().await;
    let failing = Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).up_to_n_times(1);
    failing.mount(&receiver).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&receiver).await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut shop = Shop::with_webhook(&receiver.uri(), secret);

    shop.order("ann", &[("PEN", 1)]).await;
    let by_webhook = async |shop: &Shop| {
        let told = told(&shop.client, "ann").await;
        told.into_iter().find(|(_, channel, _)| channel == "webhook").map(|(outcome, ..)| outcome)
    };
    wait_until("it has failed", async || by_webhook(&shop).await.as_deref() == Some("waiting")).await;
    // What waits survives a stop.
    shop.restart();
    wait_until("it is called again", async || by_webhook(&shop).await.as_deref() == Some("sent")).await;
    shop.restart();
    shop.order("bob", &[("PEN", 1)]).await;
    wait_until("the next user is told", async || told(&shop.client, "bob").await.len() == 2).await;

    let calls = receiver.received_requests().await.expect("recorded");
    let header = |at: usize, name: &str| calls[at].headers[name].to_str().expect("text").to_owned();
    assert_eq!(calls.len(), 3);
    assert_eq!(header(0, "webhook-id"), header(1, "webhook-id"));
    assert_ne!(header(1, "webhook-id"), header(2, "webhook-id"));
    let verifier = standardwebhooks::Webhook::new(secret).expect("a secret");
    for call in &calls {
        verifier.verify(&call.body, &call.headers).expect("signed");
    }
}
