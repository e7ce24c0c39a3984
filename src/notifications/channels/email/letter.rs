//! What is written to a user: the subject and the text, from the templates in `templates/`.
//!
//! A template's first line is the subject; after an empty line comes the text.

use iso_currency::Currency;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::amount;
use super::one_line::one_line;
use crate::domain::OrderEvent;
use crate::domain::order::{CANCELLED_ON_REQUEST, Item, PAYMENT_TIMEOUT, Status};

use super::super::Locale;

/// A letter names so many lines of an order, and counts the others.
const ITEMS_LISTED_MAX: usize = 20;
const ITEM_NAME_CHARS_MAX: usize = 100;
/// Each for each language, by `<event>.<locale>` or `items.<locale>`.
const TEMPLATES: [(&str, &str); 12] = [
    ("awaiting_payment.en", include_str!("../../templates/awaiting_payment.en.txt")),
    ("awaiting_payment.ru", include_str!("../../templates/awaiting_payment.ru.txt")),
    ("failed.en", include_str!("../../templates/failed.en.txt")),
    ("failed.ru", include_str!("../../templates/failed.ru.txt")),
    ("payed.en", include_str!("../../templates/payed.en.txt")),
    ("payed.ru", include_str!("../../templates/payed.ru.txt")),
    ("cancelled.en", include_str!("../../templates/cancelled.en.txt")),
    ("cancelled.ru", include_str!("../../templates/cancelled.ru.txt")),
    ("payment_refused.en", include_str!("../../templates/payment_refused.en.txt")),
    ("payment_refused.ru", include_str!("../../templates/payment_refused.ru.txt")),
    ("items.en", include_str!("../../templates/items.en.txt")),
    ("items.ru", include_str!("../../templates/items.ru.txt")),
];

pub struct Letters {
    templates: Environment<'static>,
    currency: Currency,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub subject: String,
    pub text: String,
}

impl Letters {
    /// # Errors
    /// Where a template is not valid.
    pub fn new(currency: Currency) -> Result<Self, minijinja::Error> {
        let mut templates = Environment::empty();
        // A name that no value was given for is a fault, and not an empty text in a user's mail.
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, template) in TEMPLATES {
            templates.add_template(name, template)?;
        }
        Ok(Self { templates, currency })
    }

    /// `None` for a new order: the next event follows at once and says what became of it.
    ///
    /// # Errors
    /// Where a template wants what it is not given.
    pub fn write(&self, event: &OrderEvent, locale: Locale) -> Result<Option<Letter>, minijinja::Error> {
        if event.status == Status::New {
            return Ok(None);
        }
        let reason = event.reason.as_deref();
        let values = context! {
            order => event.order.0,
            items => self.items(&event.items, locale)?,
            total => amount::written(event.total, self.currency, locale),
            unpaid => reason == Some(PAYMENT_TIMEOUT),
            on_request => reason == Some(CANCELLED_ON_REQUEST),
        };
        let name = format!("{}.{}", event.name(), locale.as_str());
        let written = self.templates.get_template(&name)?.render(values)?;
        let (subject, text) = written.split_once("\n\n").unwrap_or((&written, ""));
        Ok(Some(Letter { subject: subject.to_owned(), text: format!("{}\n", text.trim_end()) }))
    }

    fn items(&self, items: &[Item], locale: Locale) -> Result<String, minijinja::Error> {
        let line = |item: &Item| {
            context! {
                name => one_line(&item.name, ITEM_NAME_CHARS_MAX),
                count => item.count.units(),
                price => amount::written(item.price, self.currency, locale),
            }
        };
        let listed: Vec<Value> = items.iter().take(ITEMS_LISTED_MAX).map(line).collect();
        let more = items.len() - listed.len();
        let template = self.templates.get_template(&format!("items.{}", locale.as_str()))?;
        Ok(template.render(context! { items => listed, more })?.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::samples;
    use super::*;

    fn letter(event: &OrderEvent, locale: Locale) -> Letter {
        let letters = Letters::new(Currency::RUB).expect("valid templates");
        let mut letter = letters.write(event, locale).expect("a letter").expect("not a new order");
        letter.text = letter.text.replace('\u{a0}', " ");
        letter
    }

    fn check(status: Status, reason: Option<&str>, locale: Locale, subject: &str, text: &str) {
        let event = OrderEvent { reason: reason.map(str::to_owned), ..samples::event(status) };
        assert_eq!(letter(&event, locale), Letter { subject: subject.to_owned(), text: text.to_owned() });
    }

    #[test]
    fn letters_are_written_in_english() {
        let payed = "Hello,\n\nthank you, we have received the payment for your order 17.\n\n\
            - Lamp: 2 × 890.00 RUB\n- Лампочка: 10 × 1.50 RUB\n\nTotal: 1,795.00 RUB\n";
        check(Status::Payed, None, Locale::En, "Order 17 is paid", payed);
        let cancelled = "Hello,\n\nyour order 17 was not paid for in time and is cancelled. Please do not pay for it \
            any more.\n\n- Lamp: 2 × 890.00 RUB\n- Лампочка: 10 × 1.50 RUB\n\nTotal: 1,795.00 RUB\n";
        check(Status::Cancelled, Some(PAYMENT_TIMEOUT), Locale::En, "Order 17 is cancelled", cancelled);
        let failed = "Hello,\n\nwe are sorry: there is not enough in stock for your order 17. Nothing was set aside \
            and there is nothing to pay.\n\n- Lamp: 2 × 890.00 RUB\n- Лампочка: 10 × 1.50 RUB\n";
        check(Status::Failed, Some("out_of_stock: A"), Locale::En, "Order 17 could not be placed", failed);
        let waiting = letter(&samples::event(Status::AwaitingPayment), Locale::En);
        assert_eq!(waiting.subject, "Order 17 is waiting for your payment");
        assert!(waiting.text.contains("Please pay for it in time"), "{}", waiting.text);
    }

    #[test]
    fn letters_are_written_in_russian() {
        let waiting = "Здравствуйте!\n\nТовары по заказу 17 отложены для вас. Пожалуйста, оплатите заказ вовремя, \
            иначе он будет отменён.\n\n- Lamp: 2 × 890,00 RUB\n- Лампочка: 10 × 1,50 RUB\n\nИтого: 1 795,00 RUB\n";
        check(Status::AwaitingPayment, None, Locale::Ru, "Заказ 17 ожидает оплаты", waiting);
        let cancelled = "Здравствуйте!\n\nЗаказ 17 отменён по запросу. Пожалуйста, больше не оплачивайте его.\n\n\
            - Lamp: 2 × 890,00 RUB\n- Лампочка: 10 × 1,50 RUB\n\nИтого: 1 795,00 RUB\n";
        check(Status::Cancelled, Some(CANCELLED_ON_REQUEST), Locale::Ru, "Заказ 17 отменён", cancelled);
        assert_eq!(letter(&samples::event(Status::Payed), Locale::Ru).subject, "Заказ 17 оплачен");
        let failed = letter(&samples::event(Status::Failed), Locale::Ru);
        assert_eq!(failed.subject, "Заказ 17 не удалось оформить");
        assert!(failed.text.contains("не хватает на складе"), "{}", failed.text);
    }

    #[test]
    fn a_new_order_has_no_letter() {
        let letters = Letters::new(Currency::RUB).expect("valid templates");
        assert_eq!(letters.write(&samples::event(Status::New), Locale::En).expect("no fault"), None);
    }

    #[test]
    fn a_long_order_is_listed_in_part() {
        let items = |count| OrderEvent {
            items: (0..count).map(|number| samples::item(&format!("Lamp {number}"), 100, 1)).collect(),
            ..samples::event(Status::Payed)
        };
        let text = letter(&items(ITEMS_LISTED_MAX), Locale::En).text;
        assert!(text.contains("- Lamp 19: ") && !text.contains(" more"), "{text}");
        let text = letter(&items(ITEMS_LISTED_MAX + 3), Locale::En).text;
        assert!(text.contains("- Lamp 19: 1 × 1.00 RUB\nand 3 more\n\nTotal: "), "{text}");
        assert!(!text.contains("Lamp 20"), "{text}");
        let text = letter(&items(ITEMS_LISTED_MAX + 3), Locale::Ru).text;
        assert!(text.contains("- Lamp 19: 1 × 1,00 RUB\nи ещё позиций: 3\n\nИтого: "), "{text}");
    }

    #[test]
    fn the_name_of_an_item_is_one_line_and_no_template() {
        let name = format!("Lamp\r\n\r\n{{{{ order }}}}<b>{}", "x".repeat(1_000));
        let event = OrderEvent { items: [samples::item(&name, 100, 1)].into(), ..samples::event(Status::Payed) };
        let text = letter(&event, Locale::En).text;
        assert!(text.contains("\n- Lamp {{ order }}<b>xxx") && text.contains("xx…: 1 × 1.00 RUB\n"), "{text}");
    }
}
