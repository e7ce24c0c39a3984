//! Notifications: what users were told, and how they can be reached.

use actix_web::{HttpResponse, get, put, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::actors::Failure;
use crate::domain::UserId;
use crate::domain::contact::{Contact, Email, Locale};
use crate::domain::ids::plain_number;
use crate::store::notification_log::{Notification, NotificationFilter};

use super::answer::{json, rfc3339};
use super::problem::Problem;
use super::refusals::{BadBody, BadValue, Unserved};
use super::request::{self, JsonBody, given};
use super::{Shared, schema};

/// How many notifications a page has, unless asked otherwise, and at the most.
const PAGE_NOTIFICATIONS: (u32, u32) = (50, 500);

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Page {
    #[param(schema_with = schema::user_or_empty)]
    user: Option<String>,
    /// 1 to 500; 50 where it is missing.
    #[param(schema_with = schema::limit_or_empty)]
    limit: Option<String>,
    /// The `next` of the page before.
    #[param(schema_with = schema::number_or_empty)]
    after: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Notifications<'a> {
    notifications: Vec<NotificationBody<'a>>,
    /// Where the next page starts; null on the last.
    next: Option<i64>,
}

/// What became of an event on a channel.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Notification)]
struct NotificationBody<'a> {
    notification_id: i64,
    event_id: &'a str,
    user: &'a str,
    order_id: i64,
    /// The order's status that is told, or `payment_refused`.
    status: &'a str,
    /// `log`, `webhook` or `email`.
    channel: &'a str,
    /// `sent`, `skipped` (there was nobody to send it to), `waiting` (for another attempt) or `failed`.
    outcome: &'static str,
    attempts: u32,
    /// Why it was not sent.
    reason: Option<&'a str>,
    /// When it was last tried.
    #[serde(serialize_with = "rfc3339")]
    time: DateTime<Utc>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with email and locale")]
pub struct NewContact {
    #[schema(format = "email", min_length = 1, max_length = 254)]
    email: String,
    /// `en` or `ru`.
    #[schema(pattern = "^(en|ru)$")]
    locale: String,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Contact)]
struct ContactBody<'a> {
    user: &'a str,
    email: &'a str,
    locale: &'static str,
}

/// What users were told, newest first.
#[utoipa::path(tag = "Notifications", params(Page), responses((status = 200, body = Notifications), Unserved, BadValue))]
#[get("/notifications")]
pub async fn list_notifications(api: Shared, page: web::Query<Page>) -> Result<HttpResponse, Problem> {
    let user = given(page.user.as_ref()).map(request::user).transpose()?;
    let limit = request::limit(given(page.limit.as_ref()), PAGE_NOTIFICATIONS)?;
    let id = |text| plain_number(text).ok_or_else(|| Problem::invalid("after", "is not a notification id"));
    let before = given(page.after.as_ref()).map(id).transpose()?;
    let filter = NotificationFilter { user, before, limit: limit + 1 };
    let turn = api.gate.turn_to_list().await?;
    let read = api.core.read(move |store| async move { Ok((store.notifications(&filter).await?, turn)) });
    let (mut listed, _turn) = read.await?;
    let next = request::last_before_more(&mut listed, limit as usize).map(|last| last.id);
    let notifications = listed.iter().map(body_of).collect();
    Ok(json(HttpResponse::Ok(), &Notifications { notifications, next }))
}

/// Says how a user can be reached.
#[utoipa::path(tag = "Notifications", request_body = NewContact, params(("user" = inline(UserId), Path)),
    responses((status = 200, body = ContactBody), Unserved, BadBody, BadValue))]
#[put("/users/{user}/contact")]
pub async fn set_contact(
    api: Shared,
    path: web::Path<String>,
    body: JsonBody<NewContact>,
) -> Result<HttpResponse, Problem> {
    let user = request::user(&path)?;
    let contact = body.value.read()?;
    let answer = json(
        HttpResponse::Ok(),
        &ContactBody { user: user.as_str(), email: contact.email.as_str(), locale: contact.locale.as_str() },
    );
    let now = api.core.clock.now();
    let set = api.core.read(move |store| async move { store.set_contact(&user, &contact, now).await }).await;
    // What has failed may be written all the same: its answer may be what was lost.
    set.map_err(|_| Failure::InDoubt)?;
    Ok(answer)
}

impl NewContact {
    /// # Errors
    /// 422 naming the field.
    pub fn read(&self) -> Result<Contact, Problem> {
        let email = Email::parse(&self.email).map_err(|error| Problem::invalid("email", error))?;
        let locale = Locale::parse(&self.locale).ok_or_else(|| Problem::invalid("locale", "must be en or ru"))?;
        Ok(Contact { email, locale })
    }
}

fn body_of(notification: &Notification) -> NotificationBody<'_> {
    NotificationBody {
        notification_id: notification.id,
        event_id: &notification.event_id,
        user: notification.user.as_str(),
        order_id: notification.order.0,
        status: &notification.status,
        channel: &notification.channel,
        outcome: notification.told.as_str(),
        attempts: notification.attempts,
        reason: notification.reason.as_deref(),
        time: notification.at,
    }
}
