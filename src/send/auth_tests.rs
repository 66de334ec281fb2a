use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::testing::{BYE, connector, context, greeting, message, play, runtime, target};
use super::super::testing_tls::{STEP, hello, logged, serve_tls, through_tls, trusting};
use super::super::{Connection, Outcome};
use crate::config::{Auth, Credentials, MinTlsVersion, OAuth2, SendConnector, SendTls};
use crate::tls::ServerTls;
use crate::tls::test_pki::{Leaf, Pki};

fn with_password(login: bool) -> (SendConnector, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let credentials = Credentials { username: "relay".into(), password_file: file.path().into() };
    let mut config = connector(SendTls::Opportunistic);
    config.auth = Some(if login { Auth::Login(credentials) } else { Auth::Plain(credentials) });
    (config, file)
}

#[tokio::test]
async fn auth_plain_and_login() {
    let (config, _file) = with_password(false);
    let inside =
        format!("{}C AUTH PLAIN AHJlbGF5AHMzY3JldA==\nS 235 2.7.0 ok\n{STEP}{BYE}", hello("AUTH=PLAIN"));
    let (result, ..) = through_tls(config, &target(), &["mx.test"], &inside).await;
    assert!(result.unwrap()[0].is_success());
    let (config, _file) = with_password(true);
    let inside = format!(
        "{}C AUTH LOGIN\nS 334 VXNlcm5hbWU6\nC cmVsYXk=\nS 334 UGFzc3dvcmQ6\nC czNjcmV0\nS 235 2.7.0 ok\n{STEP}{BYE}",
        hello("AUTH=LOGIN")
    );
    let (result, ..) = through_tls(config, &target(), &["mx.test"], &inside).await;
    assert!(result.unwrap()[0].is_success());
}

#[tokio::test]
async fn auth_that_fails_defers() {
    let (config, _file) = with_password(false);
    let inside = format!(
        "{}C AUTH PLAIN AHJlbGF5AHMzY3JldA==\nS 535 5.7.3 Authentication unsuccessful\n{BYE}",
        hello("AUTH=PLAIN")
    );
    let (result, ..) = through_tls(config.clone(), &target(), &["mx.test"], &inside).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.reply.to_string(), "535 5.7.3 Authentication unsuccessful");
    assert!(matches!(failure.outcome(), Outcome::Deferred(_)), "the sender is not to blame");
    let inside = format!("{}{BYE}", hello("AUTH=LOGIN"));
    let (result, ..) = through_tls(config.clone(), &target(), &["mx.test"], &inside).await;
    assert_eq!(result.unwrap_err().to_string(), "454 4.7.0 The next hop does not offer AUTH PLAIN");
    // And never in clear text, whatever the rule says.
    let played = play(&runtime(config), &[], &format!("{}{BYE}", greeting("AUTH=PLAIN"))).await;
    assert_eq!(played.failure().to_string(), "451 5.7.3 STARTTLS is required to send mail");
}

#[tokio::test]
async fn secrets_stay_out_of_the_log() {
    let (config, _file) = with_password(true);
    let inside = format!(
        "{}C AUTH LOGIN\nS 334 VXNlcm5hbWU6\nC cmVsYXk=\nS 334 UGFzc3dvcmQ6\nC czNjcmV0\nS 235 2.7.0 ok\n{STEP}{BYE}",
        hello("AUTH=LOGIN")
    );
    let text = logged(config, Some(&["mx.test"]), &inside).await.join("\n");
    assert!(text.contains("235 2.7.0 ok") && text.contains("<authentication information>"), "{text}");
    for secret in ["cmVsYXk=", "czNjcmV0", "s3cret"] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// A token endpoint that answers each request the same, and tells what it was asked.
async fn token_endpoint(pki: &Pki, answer: &'static str) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/tenant/token", listener.local_addr().unwrap().port());
    let identity = pki.identity(&Leaf { names: &["localhost"], ..Leaf::default() });
    let tls = ServerTls::new(&identity, MinTlsVersion::Tls12, false, false).unwrap();
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await
        {
            let (mut stream, _) = tls.accept(stream, Duration::from_secs(5)).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"default") {
                let mut room = [0; 1024];
                let got = stream.read(&mut room).await.unwrap();
                assert!(got > 0);
                request.extend_from_slice(&room[..got]);
            }
            requests.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        requests
    });
    (url, served)
}

fn with_oauth(token_url: String) -> (SendConnector, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "c&lient\n").unwrap();
    let mut config = connector(SendTls::Required);
    config.auth = Some(Auth::XOAuth2(OAuth2 {
        username: "relay@x.test".into(),
        token_url,
        client_id: "app".into(),
        client_secret_file: file.path().into(),
        scope: "https://outlook.test/.default".into(),
    }));
    (config, file)
}

#[tokio::test]
async fn xoauth2_asks_for_a_token_and_keeps_it() {
    let pki = Pki::new();
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n{\"access_token\":\"t0ken\", \"expires_in\":3600}";
    let (url, served) = token_endpoint(&pki, answer).await;
    let (config, _file) = with_oauth(url);
    let runtime = trusting(&pki, config);
    let (context, _events) = context();
    let inside = format!(
        "{}C AUTH XOAUTH2 dXNlcj1yZWxheUB4LnRlc3QBYXV0aD1CZWFyZXIgdDBrZW4BAQ==\nS 235 2.7.0 ok\n{STEP}{BYE}",
        hello("AUTH=XOAUTH2")
    );
    for _ in 0..2 {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let target = target();
        let client = async {
            let mut connection = Connection::over(ours, &runtime, &target, &context).await.unwrap();
            let outcomes = connection.send(&message(&["b@x.test"], b"x\r\n")).await;
            connection.quit().await;
            outcomes
        };
        let (outcomes, _) =
            tokio::join!(Box::pin(client), Box::pin(serve_tls(theirs, &pki, &["mx.test"], &inside)));
        assert!(outcomes[0].is_success());
    }
    let requests = served.await.unwrap();
    assert_eq!(requests.len(), 1, "the token is kept");
    assert!(requests[0].starts_with("POST /tenant/token HTTP/1.1\r\nHost: localhost\r\n"));
    assert!(requests[0].ends_with(
        "\r\n\r\ngrant_type=client_credentials&client_id=app&client_secret=c%26lient\
         &scope=https%3A%2F%2Foutlook.test%2F.default"
    ));
}

#[tokio::test]
async fn a_token_endpoint_that_refuses_defers() {
    let pki = Pki::new();
    let answer = "HTTP/1.1 401 Unauthorized\r\n\r\n{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid\\r\\nTrace\"}";
    let (url, _served) = token_endpoint(&pki, answer).await;
    let (config, _file) = with_oauth(url);
    let runtime = trusting(&pki, config);
    let (context, _events) = context();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let target = target();
    let inside = format!("{}{BYE}", hello("AUTH=XOAUTH2"));
    let (result, _) = tokio::join!(
        Box::pin(Connection::over(ours, &runtime, &target, &context)),
        Box::pin(serve_tls(theirs, &pki, &["mx.test"], &inside))
    );
    let failure = result.err().unwrap();
    assert_eq!(failure.to_string(), "454 4.7.0 No OAuth 2 token: invalid_client AADSTS7000215: Invalid");
    assert!(!failure.permanent);
}
