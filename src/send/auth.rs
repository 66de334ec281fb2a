//! AUTH as a client (RFC 4954), only ever over TLS. What is secret never reaches a log.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::open::{Opening, Refused};
use super::{oauth, words};
use crate::config::{Auth, Credentials, OAuth2};
use crate::smtp::Reply;

/// RFC 4954 section 6 names none; as for other commands.
const AUTH: Duration = Duration::from_mins(5);

/// The credentials are not good (RFC 4954 section 6).
const REFUSED: u16 = 535;

/// What stands for a secret in the protocol log.
const PLACEHOLDER: &str = "<authentication information>";

impl Opening<'_> {
    /// Presents the connector's credentials, if it has any.
    pub(super) async fn authenticate(&mut self) -> Result<(), Refused> {
        let Some(auth) = &self.connector.config.auth else { return Ok(()) };
        if self.connection.session.tls.is_none() {
            return Err(self.give_up(words::own(words::STARTTLS_REQUIRED), "").await);
        }
        let mechanism = match auth {
            Auth::Plain(_) => "PLAIN",
            Auth::Login(_) => "LOGIN",
            Auth::XOAuth2(_) => "XOAUTH2",
        };
        if !self.connection.peer.auth.iter().any(|offered| offered == mechanism) {
            let text = format!("The next hop does not offer AUTH {mechanism}");
            return Err(self.give_up(words::reply(454, (4, 7, 0), &text), "").await);
        }
        let reply = match auth {
            Auth::Plain(credentials) => self.plain(credentials).await?,
            Auth::Login(credentials) => self.login(credentials).await?,
            Auth::XOAuth2(settings) => self.xoauth2(settings).await?,
        };
        if reply.code == 235 {
            return Ok(());
        }
        self.connection.session.log.info("", "Outbound Authentication failed with LogonDenied");
        if reply.code == 421 {
            return Err(self.closed(reply));
        }
        Err(self.refuse(reply).await)
    }

    /// RFC 4616, with the initial response of RFC 4954.
    async fn plain(&mut self, credentials: &Credentials) -> Result<Reply, Refused> {
        let password = self.password(credentials).await?;
        let secret = BASE64_STANDARD.encode(format!("\0{}\0{password}", credentials.username));
        let reply = self.initial("PLAIN", &secret).await?;
        if reply.code != 334 {
            return Ok(reply);
        }
        // It did not take the initial response and asks for it again.
        self.respond(&secret).await
    }

    /// The old mechanism of user and password in two steps.
    async fn login(&mut self, credentials: &Credentials) -> Result<Reply, Refused> {
        let password = self.password(credentials).await?;
        let mut reply = self.ask("AUTH LOGIN", AUTH).await?;
        self.log_challenge(&reply);
        for secret in [credentials.username.as_str(), &password] {
            if reply.code != 334 {
                return Ok(reply);
            }
            reply = self.respond(&BASE64_STANDARD.encode(secret)).await?;
        }
        Ok(reply)
    }

    /// Google's and Microsoft's mechanism for OAuth 2 tokens. A token that was kept may have been
    /// revoked since: refused, it is replaced and a new one tried, once.
    async fn xoauth2(&mut self, settings: &OAuth2) -> Result<Reply, Refused> {
        let (kept, reply) = self.present_token(settings).await?;
        if kept && reply.code == REFUSED {
            return Ok(self.present_token(settings).await?.1);
        }
        Ok(reply)
    }

    /// Presents a token; whether it was one kept from before, and the reply that counts.
    async fn present_token(&mut self, settings: &OAuth2) -> Result<(bool, Reply), Refused> {
        let connector = self.connector;
        let (token, fresh) = match connector.tokens.token(settings, &self.resolver, &connector.roots).await {
            Ok(token) => token,
            Err(why) => {
                tracing::error!("connector {}: no OAuth 2 token: {why}", connector.config.name);
                self.connection.session.log.info(&why, "No OAuth 2 token");
                let reply = words::reply(454, (4, 7, 0), &format!("No OAuth 2 token: {why}"));
                return Err(self.give_up(reply, "").await);
            }
        };
        let mut reply = self.initial("XOAUTH2", &oauth::response(&settings.username, &token)).await?;
        if reply.code == 334 {
            // A refusal comes as a challenge; the empty answer brings the reply that counts.
            reply = self.respond("").await?;
        }
        // A server that is merely busy says nothing about the token.
        if reply.code / 100 == 5 {
            connector.tokens.forget(&token).await;
        }
        Ok((!fresh, reply))
    }

    async fn password(&mut self, credentials: &Credentials) -> Result<String, Refused> {
        match read_secret(&credentials.password_file).await {
            Ok(password) => Ok(password),
            Err(e) => {
                tracing::error!("{}: {e}", credentials.password_file.display());
                let reply = words::reply(454, (4, 7, 0), "The password file of the connector cannot be read");
                Err(self.give_up(reply, "").await)
            }
        }
    }

    /// AUTH with an initial response (RFC 4954 section 4).
    async fn initial(&mut self, mechanism: &str, secret: &str) -> Result<Reply, Refused> {
        self.connection.session.log.sent(&format!("AUTH {mechanism} {PLACEHOLDER}"));
        let reply = self.ask_unlogged(&format!("AUTH {mechanism} {secret}"), AUTH).await?;
        self.log_challenge(&reply);
        Ok(reply)
    }

    async fn respond(&mut self, secret: &str) -> Result<Reply, Refused> {
        self.connection.session.log.sent(PLACEHOLDER);
        let reply = self.ask_unlogged(secret, AUTH).await?;
        self.log_challenge(&reply);
        Ok(reply)
    }

    fn log_challenge(&mut self, reply: &Reply) {
        if reply.code == 334 {
            self.connection.session.log.received("334 <authentication response>");
        } else {
            self.connection.session.received(reply);
        }
    }
}

/// Read for each session, so that a changed password needs no reload.
pub(crate) async fn read_secret(file: &Path) -> std::io::Result<String> {
    let mut text = tokio::fs::read_to_string(file).await?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
