//! Through which server mail is sent, and in whose name.

use lettre::message::Mailbox;
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::contact::{Email, InvalidEmail};

/// Why no mail can be sent. Repeats nothing of the server's address, which holds a password.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("the address of the mail server must be like smtps://user:password@host or smtp://host:port")]
    Address,
    #[error("the address of the mail server may have no other option than tls=required or tls=opportunistic")]
    Option,
    #[error("the address of the mail server has a user without a password, or a password without a user")]
    HalfOfCredentials,
    #[error("a password goes to the mail server over TLS only: write smtps:// or add ?tls=required")]
    PasswordInClear,
    /// As where there are no trusted certificates, or the password is not UTF-8.
    #[error("the connection to the mail server cannot be set up")]
    Setup(#[source] lettre::transport::smtp::Error),
    #[error("the sender of mail must be like no-reply@shop.example or Shop <no-reply@shop.example>")]
    Sender,
    #[error("the address of the sender of mail {0}")]
    SenderAddress(InvalidEmail),
}

/// What is shown of it has no password in it: lettre leaves it out.
#[derive(Debug)]
pub struct Settings {
    server: AsyncSmtpTransportBuilder,
    from: Mailbox,
}

impl Settings {
    /// `server` is `smtps://user:password@host` for TLS from the start, `smtp://…?tls=required` for
    /// STARTTLS, `smtp://…?tls=opportunistic` for STARTTLS where the server has it, and `smtp://host`
    /// for no TLS; a path, if any, is the name to greet the server with.
    ///
    /// # Errors
    /// [`SettingsError`] says which setting is wrong, and shows no password.
    pub fn parse(server: &SecretString, from: &str) -> Result<Self, SettingsError> {
        let from = parse_sender(from)?;
        let url = Url::parse(server.expose_secret()).map_err(|_| SettingsError::Address)?;
        check(&url)?;
        let mut server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str()).map_err(SettingsError::Setup)?;
        if url.path().trim_matches('/').is_empty() {
            // Otherwise the client greets with the number of a loopback, which looks like abuse.
            server = server.hello_name(ClientId::Domain(from.email.domain().to_owned()));
        }
        Ok(Self { server, from })
    }

    pub(super) fn into_parts(self) -> (AsyncSmtpTransportBuilder, Mailbox) {
        (self.server, self.from)
    }
}

/// What lettre would pass over in silence, and send without TLS or without a password.
fn check(url: &Url) -> Result<(), SettingsError> {
    if !matches!(url.scheme(), "smtp" | "smtps") || url.host_str().is_none_or(str::is_empty) {
        return Err(SettingsError::Address);
    }
    let options: Vec<_> = url.query_pairs().collect();
    let mode = match options.as_slice() {
        [] => None,
        [(name, mode)] if name == "tls" && matches!(mode.as_ref(), "required" | "opportunistic") => Some(mode),
        _ => return Err(SettingsError::Option),
    };
    if url.username().is_empty() != url.password().is_none() {
        return Err(SettingsError::HalfOfCredentials);
    }
    // Where TLS is only taken if it is offered, somebody in between can take the offer away.
    if url.password().is_some() && url.scheme() == "smtp" && mode.is_none_or(|mode| mode != "required") {
        return Err(SettingsError::PasswordInClear);
    }
    Ok(())
}

/// # Errors
/// [`SettingsError::Sender`] or [`SettingsError::SenderAddress`].
pub fn parse_sender(text: &str) -> Result<Mailbox, SettingsError> {
    if text.chars().any(char::is_control) {
        return Err(SettingsError::Sender);
    }
    let from: Mailbox = text.trim().parse().map_err(|_| SettingsError::Sender)?;
    Email::parse(from.email.as_ref()).map_err(SettingsError::SenderAddress)?;
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: &str = "no-reply@shop.example";

    fn parse(server: &str, from: &str) -> Result<Settings, SettingsError> {
        Settings::parse(&server.into(), from)
    }

    #[test]
    fn servers_with_and_without_tls_are_taken() {
        for server in [
            "smtp://mail.shop.example",
            "smtp://127.0.0.1:2525",
            "smtp://mail.shop.example:587/client.shop.example?tls=required",
            "smtp://ann:pass@mail.shop.example?tls=required",
            "smtp://mail.shop.example?tls=opportunistic",
            "smtps://ann%40shop.example:pa%2Fss@mail.shop.example",
        ] {
            if let Err(error) = parse(server, SENDER) {
                panic!("{server}: {error}");
            }
        }
    }

    #[test]
    fn a_server_that_would_not_be_used_as_meant_is_refused() {
        let check = |server: &str, is_right: fn(&SettingsError) -> bool| {
            let error = parse(server, SENDER).expect_err(server);
            assert!(is_right(&error), "{server}: {error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{server}: {error:?}");
        };
        for server in
            ["", "mail", "http://mail", "smtp:", "smtp://", "smtps://ann:s3cret@", "smtp://ann:s3cret?word@mail"]
        {
            check(server, |error| matches!(error, SettingsError::Address));
        }
        for server in ["smtp://mail?tls=requierd", "smtp://mail?tsl=required", "smtp://ann:1234?s3cret@mail"] {
            check(server, |error| matches!(error, SettingsError::Option));
        }
        for server in ["smtps://ann@mail", "smtps://:s3cret@mail"] {
            check(server, |error| matches!(error, SettingsError::HalfOfCredentials));
        }
        for server in ["smtp://ann:s3cret@mail", "smtp://ann:s3cret@mail?tls=opportunistic"] {
            check(server, |error| matches!(error, SettingsError::PasswordInClear));
        }
        check("smtps://ann:s3cret%ff@mail", |error| matches!(error, SettingsError::Setup(_)));
    }

    #[test]
    fn a_sender_may_have_a_name() {
        for (from, address) in [
            (SENDER, SENDER),
            ("Shop <no-reply@shop.example>", SENDER),
            ("\"Магазин\" <no-reply@shop.example>", SENDER),
        ] {
            let (_, sender) = parse("smtp://mail", from).expect(from).into_parts();
            assert_eq!(sender.email.to_string(), address);
        }
        for from in ["", "shop", "Shop <>", "a@shop.example, b@shop.example", "Shop\r\nBcc: <no-reply@shop.example>"] {
            assert!(matches!(parse("smtp://mail", from), Err(SettingsError::Sender)), "{from:?}");
        }
        let numbered = parse("smtp://mail", "a@10.0.0.1").expect_err("a number for a domain");
        assert!(matches!(numbered, SettingsError::SenderAddress(InvalidEmail::Form)), "{numbered}");
    }

    #[test]
    fn the_password_is_not_shown() {
        let settings = parse("smtps://ann:pass-17@mail.shop.example", SENDER).expect("valid settings");
        let shown = format!("{settings:?}");
        assert!(shown.contains("mail.shop.example") && !shown.contains("pass-17"), "{shown}");
    }
}
