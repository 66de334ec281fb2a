//! AUTH as a client (RFC 4954), only ever over TLS. What is secret never reaches a log.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::open::{Opening, Refused};
use super::words;
use crate::config::{Auth, Credentials};
use crate::smtp::Reply;

/// RFC 4954 section 6 names none; as for other commands.
const AUTH: Duration = Duration::from_mins(5);

/// What stands for a secret in the protocol log.
const PLACEHOLDER: &str = "<authentication information>";

impl Opening<'_> {
    /// Presents the connector's credentials, if it has any.
    pub(super) async fn authenticate(&mut self) -> Result<(), Refused> {
        let Some(auth) = &self.connector.config.auth else { return Ok(()) };
        if self.connection.session.tls.is_none() {
            return Err(self.refuse(words::own(words::STARTTLS_REQUIRED), true).await);
        }
        let (mechanism, credentials) = match auth {
            Auth::Plain(credentials) => ("PLAIN", credentials),
            Auth::Login(credentials) => ("LOGIN", credentials),
            Auth::XOAuth2(_) => {
                let text = "AUTH XOAUTH2 is not available in this version";
                return Err(self.refuse(words::reply(454, (4, 7, 0), text), true).await);
            }
        };
        if !self.connection.peer.auth.iter().any(|offered| offered == mechanism) {
            let text = format!("The next hop does not offer AUTH {mechanism}");
            return Err(self.refuse(words::reply(454, (4, 7, 0), &text), true).await);
        }
        let password = match password(&credentials.password_file).await {
            Ok(password) => password,
            Err(e) => {
                tracing::error!("{}: {e}", credentials.password_file.display());
                let reply = words::reply(454, (4, 7, 0), "The password file of the connector cannot be read");
                return Err(self.refuse(reply, true).await);
            }
        };
        let reply = match auth {
            Auth::Login(_) => self.login(credentials, &password).await?,
            _ => self.plain(credentials, &password).await?,
        };
        if reply.code == 235 {
            return Ok(());
        }
        self.connection.session.log.info("", "Outbound Authentication failed with LogonDenied");
        if reply.code == 421 {
            return Err(self.closed(reply));
        }
        Err(self.refuse(reply, false).await)
    }

    /// RFC 4616, with the initial response of RFC 4954.
    async fn plain(&mut self, credentials: &Credentials, password: &str) -> Result<Reply, Refused> {
        let secret = BASE64_STANDARD.encode(format!("\0{}\0{password}", credentials.username));
        self.connection.session.log.sent(&format!("AUTH PLAIN {PLACEHOLDER}"));
        let reply = self.ask_unlogged(&format!("AUTH PLAIN {secret}"), AUTH).await?;
        self.log_challenge(&reply);
        if reply.code != 334 {
            return Ok(reply);
        }
        // It did not take the initial response and asks for it again.
        self.respond(&secret).await
    }

    /// The old mechanism of user and password in two steps.
    async fn login(&mut self, credentials: &Credentials, password: &str) -> Result<Reply, Refused> {
        let mut reply = self.ask("AUTH LOGIN", AUTH).await?;
        self.log_challenge(&reply);
        for secret in [credentials.username.as_str(), password] {
            if reply.code != 334 {
                return Ok(reply);
            }
            reply = self.respond(&BASE64_STANDARD.encode(secret)).await?;
        }
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
async fn password(file: &Path) -> std::io::Result<String> {
    let mut text = tokio::fs::read_to_string(file).await?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}
