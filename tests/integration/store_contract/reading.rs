//! Reading back: everything is found again as it was written, in the promised order.

use std::sync::Arc;
use std::time::Duration;

use loms::domain::cart::{Cart, Edit};
use loms::domain::contact::{Contact, Email, Locale};
use loms::domain::order::Status;
use loms::domain::{OrderId, Time};
use loms::store::{Change, Key, Movement, OrderFilter, Outcome, ShelfEdit, Verdict};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::books::run;
use super::{
    Ground, PATIENCE, adjustment, at, cancelled, count, counts, failed, keyed, moved, on_each_database, on_each_store,
    on_postgres, payed, placed, placed_with_key, plain, reserved, set_in, shelf_edit, shortage, sku, user,
};

const ODD: [&str; 5] = ["85123A", "85123a", "BANK CHARGES", "it's 100% \"odd\"\\", "ящик №4"];

#[tokio::test]
async fn an_unused_store_is_empty() {
    on_each_store(async |ground| {
        ground.store.migrate().await.expect("a second migration changes nothing");
        assert!(ground.store.is_empty().await.expect("read"));
        assert_eq!((ground.cart("ann").await, ground.order(1).await), (Cart::default(), None));
        assert_eq!(ground.store.history(OrderId(1)).await.expect("read"), []);
        assert_eq!(ground.store.outcome(&Key::parse("k").expect("valid")).await.expect("read"), None);
        assert_eq!(ground.shelves("A").await, []);
        ground.assert_books_are_right().await;
        let _writer = ground.stocked().await;
        assert!(!ground.store.is_empty().await.expect("read"));
    })
    .await;
}

#[tokio::test]
async fn a_cart_is_read_back_as_it_was_edited() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.writer().await;
        let mut cart = Cart::default();
        for (units, name) in (1..).zip(ODD) {
            writer.write(&[set_in(&mut cart, "ann", name, units)], at(units)).await.expect("written");
        }
        assert_eq!(ground.cart("ann").await, cart);
        writer.write(&[set_in(&mut cart, "ann", ODD[0], 1_000_000)], at(9)).await.expect("written");
        let removed = Edit::LineRemoved(sku(ODD[1]));
        cart.apply(removed.clone());
        let change = Change::CartEdited { user: user("ann"), cart: cart.clone(), edit: removed, key: None };
        writer.write(&[change], at(10)).await.expect("written");
        assert_eq!((ground.cart("ann").await, cart.lines().len()), (cart.clone(), 4));
        cart.apply(Edit::Emptied);
        let change = Change::CartEdited { user: user("ann"), cart: cart.clone(), edit: Edit::Emptied, key: None };
        writer.write(&[change], at(11)).await.expect("written");
        assert_eq!(ground.cart("ann").await, Cart::new(8, vec![]));
    })
    .await;
}

#[tokio::test]
async fn an_order_is_read_back_as_it_was_written() {
    on_each_store(async |ground| {
        let (identity, mut writer) = ground.stocked().await;
        let rows: Vec<ShelfEdit> = ODD.iter().map(|name| shelf_edit((name, 3, 1_000_000))).collect();
        writer.write(&[counts(&rows)], at(0)).await.expect("written");
        let split = reserved(1, "ann", &[("A", &[(1, 7), (2, 5)]), ("B", &[(1, 1)])]);
        let items: Vec<(&str, &[(i32, i64)])> = ODD.iter().map(|name| (*name, &[(3, 1_000_000)][..])).collect();
        let odd = reserved(2, "bob", &items);
        let failed = failed(3);
        let batch = [&split, &odd, &failed].map(placed);
        writer.write(&batch, at(3)).await.expect("written");
        for order in [&split, &odd, &failed] {
            assert_eq!(ground.order(order.id.0).await.as_ref(), Some(&**order));
        }
        let (payed, cancelled) = (payed(&split), cancelled(&odd));
        let batch = [moved(&payed, Movement::WriteOff), moved(&cancelled, Movement::Release)];
        writer.write(&batch, at(4)).await.expect("written");
        assert_eq!(ground.order(1).await.as_ref(), Some(&*payed));
        assert_eq!(ground.order(2).await.as_ref(), Some(&*cancelled));

        let history = ground.store.history(OrderId(2)).await.expect("read");
        let statuses: Vec<_> = history.iter().map(|entry| (entry.status, entry.at, entry.reason.clone())).collect();
        let steps =
            [(Status::New, None), (Status::AwaitingPayment, None), (Status::Cancelled, cancelled.reason.clone())];
        assert_eq!(statuses, steps.map(|(status, reason)| (status, at(2), reason)));
        assert!(history[0].event_id.starts_with(&format!("{}-", identity.writer_id)));
        let history = ground.store.history(OrderId(3)).await.expect("read");
        assert_eq!((history[1].status, &history[1].reason), (Status::Failed, &failed.reason));
        ground.assert_books_are_right().await;
    })
    .await;
}

#[tokio::test]
async fn an_outcome_is_kept_with_its_change() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let order = reserved(1, "ann", &[("A", &[(1, 1)])]);
        let (order_id, shortages) = (OrderId(2), vec![shortage()]);
        let key = Some(keyed("f"));
        let failed =
            Change::OrderPlaced { order: failed(2), shortages: shortages.clone(), emptied_cart_version: None, key };
        let mut cart = Cart::default();
        let Change::CartEdited { user, edit, .. } = set_in(&mut cart, "ann", "BANK CHARGES", 3) else { return };
        let edited = Change::CartEdited { user, cart, edit, key: Some(keyed("c")) };
        writer.write(&[placed_with_key(&order, "p"), failed, edited], at(1)).await.expect("written");
        let edit = Change::StockEdited { edit: adjustment(("A", 2, 5)), key: Some(keyed("~ !\"'")) };
        let verdicts = writer.write(&[edit], at(2)).await.expect("written");
        let [Verdict::StockWritten(shelves)] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert_eq!(plain(shelves), [(1, 10, 1), (2, 10, 0)], "all shelves of the SKU");

        let expected = [
            ("p", Outcome::Order { order_id: OrderId(1), shortages: vec![] }),
            ("f", Outcome::Order { order_id, shortages }),
            ("c", Outcome::Cart { version: 1, lines: vec![(sku("BANK CHARGES"), count(3))], tags: None }),
            ("~ !\"'", Outcome::Stock { shelves: shelves.clone() }),
        ];
        for (key, outcome) in expected {
            let stored = ground.store.outcome(&Key::parse(key).expect("valid")).await.expect("read").expect("kept");
            assert_eq!((stored.outcome, stored.fingerprint), (outcome, [7; 32]));
        }
    })
    .await;
}

async fn ids(ground: &Ground, filter: OrderFilter) -> Vec<i64> {
    let orders = ground.store.orders(&filter).await.expect("read");
    orders.iter().map(|order| order.id.0).collect()
}

/// Also where PostgreSQL believes that only a few orders wait: then it would rather read all of them and sort them.
#[tokio::test]
async fn a_page_of_waiting_orders_takes_no_more_than_its_rows() {
    const ORDERS: i64 = 500;
    const PAGE: u32 = 10;
    on_postgres(&async |ground| {
        let mut statistics = PgConnection::connect(&ground.url).await.expect("connected");
        statistics.execute("analyze orders").await.expect("done");
        let (_, mut writer) = ground.writer().await;
        writer.write(&[counts(&[shelf_edit(("A", 1, ORDERS))])], at(0)).await.expect("written");
        let orders: Vec<_> = (1..=ORDERS).map(|id| placed(&reserved(id, "ann", &[("A", &[(1, 1)])]))).collect();
        writer.write(&orders, at(1)).await.expect("written");

        let page = ground.store.awaiting_payment((Time::UNIX_EPOCH, OrderId(0)), Time::MAX_UTC, PAGE).await;
        assert_eq!(page.expect("read").len(), PAGE as usize);
        // Its connections tell what they have read when they end.
        ground.store.close().await;
        let read = "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname = 'orders'";
        let told = async {
            loop {
                match sqlx::query_scalar(read).fetch_one(&mut statistics).await.expect("told") {
                    0 => tokio::time::sleep(Duration::from_millis(10)).await,
                    read => break read,
                }
            }
        };
        let read: i64 = tokio::time::timeout(PATIENCE, told).await.expect("they are told of");
        assert!(read <= i64::from(2 * PAGE), "{read} rows were read for a page of {PAGE}");
    })
    .await;
}

#[tokio::test]
async fn orders_are_paged_newest_first() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let orders: Vec<_> = (1..=9)
            .map(|id| reserved(id, if id % 3 == 0 { "bob" } else { "ann" }, &[("A", &[(1, 1)]), ("B", &[(1, 1)])]))
            .collect();
        writer.write(&orders.iter().map(placed).collect::<Vec<_>>(), at(1)).await.expect("written");
        let two_payed = [&orders[4], &orders[7]].map(|order| moved(&payed(order), Movement::WriteOff));
        writer.write(&two_payed, at(2)).await.expect("written");

        let page = |before: Option<i64>| OrderFilter { before: before.map(OrderId), limit: 4, ..Default::default() };
        assert_eq!(ids(ground, page(None)).await, [9, 8, 7, 6]);
        assert_eq!(ids(ground, page(Some(6))).await, [5, 4, 3, 2]);
        assert_eq!(ids(ground, page(Some(2))).await, [1]);
        let of_bob = OrderFilter { user: Some(user("bob")), ..page(Some(9)) };
        assert_eq!(ids(ground, of_bob).await, [6, 3]);
        let awaiting = OrderFilter { status: Some(Status::AwaitingPayment), ..page(Some(7)) };
        assert_eq!(ids(ground, awaiting.clone()).await, [6, 4, 3, 2]);
        assert_eq!(ids(ground, OrderFilter { user: Some(user("bob")), ..awaiting }).await, [6, 3]);
        let payed = |before| OrderFilter { status: Some(Status::Payed), ..page(before) };
        assert_eq!(ids(ground, payed(None)).await, [8, 5]);
        assert_eq!(ids(ground, payed(Some(8))).await, [5]);
        assert_eq!(ids(ground, OrderFilter { user: Some(user("bob")), ..payed(None) }).await, [] as [i64; 0]);
        assert_eq!(ids(ground, OrderFilter { status: Some(Status::Failed), ..page(None) }).await, [] as [i64; 0]);
        let whole = ground.store.orders(&page(Some(2))).await.expect("read");
        assert_eq!(whole, [(*orders[0]).clone()]);
    })
    .await;
}

#[tokio::test]
async fn shelves_are_paged_in_the_order_of_their_bytes() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.writer().await;
        let rows: Vec<_> = ODD.iter().flat_map(|name| [(*name, 10, 2), (*name, 9, 1)]).map(shelf_edit).collect();
        writer.write(&[counts(&rows)], at(0)).await.expect("written");
        let mut all = Vec::new();
        loop {
            let page = ground.store.shelves_after(all.last(), 3).await.expect("read");
            all.extend(page.clone());
            if page.len() < 3 {
                break;
            }
        }
        let found: Vec<_> = all.iter().map(|(sku, shelf)| (sku.as_str(), shelf.warehouse.0)).collect();
        let mut sorted: Vec<_> = ODD.iter().flat_map(|name| [(*name, 9), (*name, 10)]).collect();
        sorted.sort_unstable();
        assert_eq!(found, sorted);
        let asked = [sku(ODD[4]), sku("NO SUCH"), sku(ODD[0])];
        let some = ground.store.shelves(&asked).await.expect("read");
        let skus: Vec<_> = some.iter().map(|(sku, _)| sku.as_str()).collect();
        assert_eq!(skus, [ODD[0], ODD[0], ODD[4], ODD[4]]);
        assert_eq!(writer.shelves(&asked).await.expect("read"), some, "the writer sees the same");
    })
    .await;
}

#[tokio::test]
async fn orders_that_await_payment_come_by_their_deadlines() {
    on_each_store(async |ground| {
        let (_, mut writer) = ground.stocked().await;
        let mut orders: Vec<_> = (1..=6).map(|id| reserved(id, "ann", &[("A", &[(1, 1)])])).collect();
        // The third and the fourth are due together, before all others; the fifth is payed.
        for order in &mut orders[2..4] {
            Arc::get_mut(order).expect("not shared").expires_at = at(5_000);
        }
        let mut batch: Vec<_> = orders.iter().map(placed).collect();
        batch.push(placed(&failed(7)));
        writer.write(&batch, at(1)).await.expect("written");
        writer.write(&[moved(&payed(&orders[4]), Movement::WriteOff)], at(2)).await.expect("written");

        let mut found = Vec::new();
        let mut after = (Time::UNIX_EPOCH, OrderId(0));
        loop {
            let page = ground.store.awaiting_payment(after, Time::MAX_UTC, 2).await.expect("read");
            let Some(last) = page.last() else { break };
            after = (last.expires_at, last.id);
            found.extend(page);
        }
        let ids: Vec<_> = found.iter().map(|order| order.id.0).collect();
        assert_eq!(ids, [3, 4, 1, 2, 6]);
        assert_eq!(found[0], *orders[2]);

        let start = (Time::UNIX_EPOCH, OrderId(0));
        for (until_ms, expected) in [(4_999, 0), (5_000, 2)] {
            let due = ground.store.awaiting_payment(start, at(until_ms), 10).await.expect("read");
            assert_eq!(due.len(), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_contact_that_cannot_be_used_is_none_and_stands_in_nobodys_way() {
    on_each_database(async |ground| {
        let email = Email::parse("reader@shop.example").expect("an address");
        let contact = Contact { email, locale: Locale::En };
        for name in ["ann", "bob"] {
            ground.store.set_contact(&user(name), &contact, at(1)).await.expect("set");
        }
        run(ground, "update contacts set locale = 'xx' where user_id = 'ann'").await;
        let contacts = ground.store.contacts(&[user("ann"), user("bob")]).await.expect("read");
        assert_eq!(contacts, [(user("bob"), contact)]);
    })
    .await;
}
