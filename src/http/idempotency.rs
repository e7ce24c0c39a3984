//! A request with an `Idempotency-Key` happens once: whoever brings the key again gets the stored
//! outcome, whoever brings it meanwhile waits. Across processes the database decides, by the key
//! that is written with the change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use crate::actors::Failure;
use crate::store::{Key, Keyed, Outcome};

use super::Api;
use super::problem::Problem;
use super::request::only_one;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Nobody waits longer for the first request with the same key.
const TURN_MS_MAX: u64 = 10_000;

/// The keys of requests that are under way in this process.
#[derive(Default)]
pub struct UnderWay(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

/// The right to act on a key, until it is dropped.
struct Turn<'a> {
    under_way: &'a UnderWay,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
    waited: bool,
}

/// The header, for the document of the addresses that take it.
pub struct KeyHeader;

impl IntoParams for KeyHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[ -~]+$"));
        let text = text.min_length(Some(1)).max_length(Some(255));
        let header = ParameterBuilder::new().name("Idempotency-Key").parameter_in(ParameterIn::Header);
        let header = header.required(Required::False).schema(Some(text));
        let meaning = "A request that comes again with its key is answered alike, and nothing is done twice.";
        vec![header.description(Some(meaning)).build()]
    }
}

/// The request's key, where it has one.
///
/// # Errors
/// 422 for a key that is not 1–255 printable ASCII characters, 400 for two keys.
pub fn key_of(request: &HttpRequest, body: &[u8]) -> Result<Option<Keyed>, Problem> {
    let Some(value) = only_one(request.headers(), &HEADER)? else { return Ok(None) };
    let key = parse(value)?;
    let mut fingerprint = Sha256::new();
    fingerprint.update(request.method().as_str());
    fingerprint.update(b" ");
    fingerprint.update(request.uri().path());
    fingerprint.update(b"\n");
    fingerprint.update(body);
    Ok(Some(Keyed { key, fingerprint: fingerprint.finalize().into(), tags: None }))
}

/// # Errors
/// As [`key_of`].
pub fn parse(value: &HeaderValue) -> Result<Key, Problem> {
    let key = value.to_str().ok().and_then(|text| Key::parse(text).ok());
    key.ok_or_else(|| Problem::invalid("Idempotency-Key", "must have 1 to 255 printable ASCII characters"))
}

/// Acts, or answers as the first request with this key was answered.
///
/// # Errors
/// What `act` refuses, and 422 `idempotency_key_reused` for a key that came with another request.
pub async fn once(
    api: &Api,
    keyed: Option<Keyed>,
    act: impl AsyncFnOnce(Option<Keyed>) -> Result<HttpResponse, Problem>,
    replay: impl AsyncFnOnce(Outcome) -> Result<HttpResponse, Problem>,
) -> Result<HttpResponse, Problem> {
    let Some(keyed) = keyed else { return act(None).await };
    let turn = api.under_way.turn(&keyed.key).await?;
    if turn.waited
        && let Some(outcome) = outcome(api, &keyed).await?
    {
        return replay(outcome).await;
    }
    let refused = match act(Some(keyed.clone())).await {
        Ok(response) => return Ok(response),
        Err(problem) => problem,
    };
    // It may be refused only because it was done before; where that cannot be read, nobody knows.
    let replayed = match outcome(api, &keyed).await {
        Ok(Some(outcome)) => replay(outcome).await,
        Ok(None) => return Err(refused),
        Err(problem) => Err(problem),
    };
    replayed.map_err(|problem| if problem.is_unavailable() { Failure::InDoubt.into() } else { problem })
}

async fn outcome(api: &Api, keyed: &Keyed) -> Result<Option<Outcome>, Problem> {
    let key = keyed.key.clone();
    let stored = api.core.read(move |store| async move { store.outcome(&key).await }).await?;
    match stored {
        Some(stored) if stored.fingerprint != keyed.fingerprint => Err(Problem::key_reused()),
        stored => Ok(stored.map(|stored| stored.outcome)),
    }
}

impl UnderWay {
    async fn turn(&self, key: &Key) -> Result<Turn<'_>, Problem> {
        let lock = Arc::clone(self.keys().entry(key.clone()).or_default());
        let mut turn = Turn { under_way: self, key: key.clone(), guard: None, waited: false };
        turn.guard = match Arc::clone(&lock).try_lock_owned() {
            Ok(guard) => Some(guard),
            Err(_) => {
                turn.waited = true;
                let limit = Duration::from_millis(TURN_MS_MAX);
                let guard = tokio::time::timeout(limit, lock.lock_owned()).await;
                // The first may have been done, or may be yet.
                Some(guard.map_err(|_| Problem::from(Failure::InDoubt))?)
            }
        };
        Ok(turn)
    }

    /// A panic under this lock would have been before any change to the map.
    fn keys(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut keys = self.under_way.keys();
        self.guard = None;
        // The map's own reference is the last: nobody waits for this key.
        if keys.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waited_in_vain_for_the_first_is_not_told_that_nothing_was_done() {
        let (under_way, key) = (UnderWay::default(), Key::parse("k").expect("a key"));
        let _first = under_way.turn(&key).await.expect("the first");
        let refused = under_way.turn(&key).await.err().expect("refused").to_string();
        assert_eq!(refused, Problem::from(Failure::InDoubt).to_string());
    }
}
