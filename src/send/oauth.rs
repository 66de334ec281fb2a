//! AUTH XOAUTH2 with client credentials (RFC 6749 section 4.4), as Exchange Online asks of
//! applications that submit mail.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Resolver;
use super::auth::read_secret;
use super::https::{Url, post_form};
use crate::config::OAuth2;
use crate::tls::Roots;

/// A token is not used in its last minute: it must last until the server has looked at it.
const MARGIN: Duration = Duration::from_mins(1);

/// What a token endpoint says about the life of a token when it says nothing.
const DEFAULT_LIFE: u64 = 300;

/// The access token of a connector, asked for when needed and kept while it lasts.
#[derive(Default)]
pub(super) struct Tokens {
    current: Mutex<Option<(String, Instant)>>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    error_description: Option<String>,
}

impl Tokens {
    /// A token that is good for now, and whether it was asked for just now. Sessions that need one
    /// at the same time share the request.
    pub(super) async fn token(
        &self,
        settings: &OAuth2,
        resolver: &Resolver,
        roots: &Roots,
    ) -> Result<(String, bool), String> {
        let mut current = self.current.lock().await;
        if let Some((token, until)) = &*current
            && Instant::now() < *until
        {
            return Ok((token.clone(), false));
        }
        let granted = ask(settings, resolver, roots).await?;
        let life = Duration::from_secs(granted.expires_in.unwrap_or(DEFAULT_LIFE).min(24 * 3600));
        *current = Some((granted.access_token.clone(), Instant::now() + life.saturating_sub(MARGIN)));
        Ok((granted.access_token, true))
    }

    /// Forgets a token that a server did not take; not one that another session got meanwhile.
    pub(super) async fn forget(&self, refused: &str) {
        self.current.lock().await.take_if(|(token, _)| token == refused);
    }
}

async fn ask(settings: &OAuth2, resolver: &Resolver, roots: &Roots) -> Result<Granted, String> {
    let url = Url::parse(&settings.token_url)
        .ok_or_else(|| format!("token_url `{}` is no https address", settings.token_url))?;
    let secret = read_secret(&settings.client_secret_file)
        .await
        .map_err(|e| format!("{}: {e}", settings.client_secret_file.display()))?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", settings.client_id.as_str()),
        ("client_secret", secret.as_str()),
        ("scope", settings.scope.as_str()),
    ];
    let (status, body) = post_form(&url, &form, resolver, roots).await?;
    if status == 200 {
        // The error would quote the answer, and with it the token.
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| "the answer holds no token")?;
        let plain = granted.access_token.bytes().all(|b| matches!(b, b'!'..=b'~'));
        return if plain { Ok(granted) } else { Err("the token is no token".to_owned()) };
    }
    Err(match serde_json::from_slice::<Refused>(&body) {
        Ok(refused) => {
            let why = refused.error_description.unwrap_or_default();
            format!("{} {}", refused.error, why.lines().next().unwrap_or_default())
        }
        Err(_) => format!("HTTP status {status}"),
    })
}

/// The client's only message.
pub(super) fn response(username: &str, token: &str) -> String {
    BASE64_STANDARD.encode(format!("user={username}\x01auth=Bearer {token}\x01\x01"))
}
