//! The webhook against receivers that check, refuse, redirect, hang, close and are private.

use serde_json::Value;
use tokio::net::TcpListener;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::super::tests::samples;
use super::*;
use crate::clock::SystemClock;
use crate::domain::order::Status;

const OLD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW_SECRET: &str = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXct";
/// Far more than a receiver in the same process needs.
const ENOUGH: Duration = Duration::from_secs(30);
/// For receivers that never answer.
const SOON: Duration = Duration::from_millis(50);

fn webhook(url: &str, allow_private: bool, request_max: Duration) -> Webhook {
    let secrets = format!("{NEW_SECRET} {OLD_SECRET}");
    let settings = Settings::parse(url, &secrets.into(), allow_private).expect("valid settings");
    Webhook::with_limit(settings, Currency::RUB, Arc::new(SystemClock), request_max).expect("a client")
}

async fn send(webhook: &Webhook) -> Result<Delivery, ChannelError> {
    webhook.send(&samples::event(Status::Payed), None).await
}

/// The outcome at a receiver that gives this answer, and the requests that came to it.
async fn answered(answer: ResponseTemplate) -> (Result<Delivery, ChannelError>, Vec<Request>) {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/hook")).respond_with(answer).mount(&server).await;
    let outcome = send(&webhook(&format!("{}/hook?key=token-17", server.uri()), true, ENOUGH)).await;
    (outcome, server.received_requests().await.expect("recorded requests"))
}

#[tokio::test]
async fn the_receiver_gets_the_event_signed_with_each_secret() {
    let (outcome, requests) = answered(ResponseTemplate::new(204)).await;
    assert_eq!(outcome, Ok(Delivery::Sent));
    let [request] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert_eq!(request.headers["webhook-id"], "3-42");
    assert_eq!(request.headers["content-type"], "application/cloudevents+json");
    for secret in [OLD_SECRET, NEW_SECRET] {
        let receiver = standardwebhooks::Webhook::new(secret).expect("a valid secret");
        receiver.verify(&request.body, &request.headers).expect("the signature is right");
        receiver.verify(b"{}", &request.headers).expect_err("another body is not signed");
    }
    let stranger = standardwebhooks::Webhook::new("whsec_c3RyYW5nZXI=").expect("a valid secret");
    stranger.verify(&request.body, &request.headers).expect_err("another secret has not signed");
    let event: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!((&event["id"], &event["data"]["currency"]), (&Value::from("3-42"), &Value::from("RUB")));
}

#[tokio::test]
async fn the_status_decides_whether_it_is_tried_again() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(answered(ResponseTemplate::new(status)).await.0, Ok(Delivery::Sent), "{status}");
    }
    // A gateway answers 401 or 404 in the name of a receiver that is being replaced.
    for status in [400, 401, 403, 404, 405, 408, 409, 421, 429, 451, 500, 502, 503, 504, 301, 304, 307] {
        let (outcome, _) = answered(ResponseTemplate::new(status)).await;
        assert!(matches!(outcome, Err(ChannelError::Later(_))), "{status}: {outcome:?}");
    }
    for status in [410, 413, 422] {
        let (outcome, _) = answered(ResponseTemplate::new(status)).await;
        assert!(matches!(outcome, Err(ChannelError::Never(_))), "{status}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer = ResponseTemplate::new(308).insert_header("location", "/elsewhere");
    let (outcome, requests) = answered(answer).await;
    let text = "the receiver redirects with status 308, which is not followed";
    assert_eq!(outcome, Err(ChannelError::Later(text.to_owned())));
    let paths: Vec<&str> = requests.iter().map(|request| request.url.path()).collect();
    assert_eq!(paths, ["/hook"]);
}

#[tokio::test]
async fn the_body_of_the_answer_is_not_waited_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        // An answer before the question would be refused.
        let bytes = stream.read(&mut [0; 4096]).await.expect("a request");
        assert!(bytes > 0, "the connection is closed");
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        stream.write_all(head).await.expect("the head is taken");
        // The body never comes; the connection stays open until the other side closes it.
        while stream.read(&mut [0; 4096]).await.is_ok_and(|bytes| bytes > 0) {}
    });
    assert_eq!(send(&webhook(&url, true, ENOUGH)).await, Ok(Delivery::Sent));
    receiver.await.expect("the receiver ends with the connection");
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left_in_time() {
    // Connections are taken by the system and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/token-17", listener.local_addr().expect("an address"));
    let outcome = send(&webhook(&url, true, SOON)).await;
    assert_eq!(outcome, Err(ChannelError::Later("the receiver did not answer in time".to_owned())));
}

#[tokio::test]
async fn a_receiver_that_closes_is_tried_again_and_its_address_is_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/token-17", listener.local_addr().expect("an address"));
    let webhook = webhook(&url, true, ENOUGH);
    let closing = tokio::spawn(async move {
        drop(listener.accept().await.expect("a connection"));
    });
    let closed = send(&webhook).await;
    closing.await.expect("the connection was closed");
    // Nobody listens any more.
    let away = send(&webhook).await;
    for outcome in [closed, away] {
        let Err(ChannelError::Later(text)) = outcome else { panic!("{outcome:?}") };
        assert!(text.starts_with("the receiver cannot be reached: "), "{text}");
        assert!(!text.contains("token") && !text.contains("http://"), "{text}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_called() {
    let server = MockServer::start().await;
    let url = format!("http://localhost:{}/hook", server.address().port());
    let outcome = send(&webhook(&url, false, ENOUGH)).await;
    let text = "the receiver cannot be reached: its name leads to no public address, and private ones are not allowed";
    assert_eq!(outcome, Err(ChannelError::Later(text.to_owned())));
    assert!(server.received_requests().await.expect("recorded requests").is_empty());

    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    assert_eq!(send(&webhook(&url, true, ENOUGH)).await, Ok(Delivery::Sent));
}
