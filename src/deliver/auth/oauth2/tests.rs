use std::cell::RefCell;

use super::*;
use crate::config::{Field, fixtures};
use crate::model::Mask;

fn secret<'s>(text: impl Into<Option<&'s str>>) -> Option<Secret> {
    text.into().map(|text| Secret::new(text.to_owned()))
}

fn auth(grant: Grant) -> OAuth2 {
    OAuth2 {
        grant,
        token_url: "https://login.test/token".into(),
        client_id: secret("id 1"),
        client_secret: secret("pass:word"),
        send: ClientProof::Basic,
        form: vec![Field { name: "scope".into(), value: secret("a b"), is_secret: false }],
    }
}

fn tokens(auth: &OAuth2) -> Tokens {
    Tokens::new(auth, &fixtures::connection("https://api.test")).unwrap()
}

/// An endpoint that answers one thing after the other, and what it was asked.
#[derive(Default)]
struct Endpoint {
    answers: RefCell<Vec<Reply>>,
    forms: RefCell<Vec<String>>,
}

impl Endpoint {
    fn answering(answers: impl IntoIterator<Item = Reply>) -> Self {
        let mut answers: Vec<Reply> = answers.into_iter().collect();
        answers.reverse();
        Self { answers: answers.into(), ..Self::default() }
    }

    async fn ask(&self, call: Call) -> Reply {
        self.forms.borrow_mut().push(String::from_utf8(call.body.to_vec()).unwrap());
        // Others get their turn while it is under way.
        tokio::task::yield_now().await;
        self.answers.borrow_mut().pop().expect("an answer")
    }
}

fn reply(status: u16, body: &str) -> Reply {
    Reply::Arrived(Arrived {
        status: http::StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        complete: true,
    })
}

fn granted(token: &str, seconds: u32) -> Reply {
    reply(200, &format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":{seconds}}}"#))
}

fn shown(token: &Result<Arc<Token>, Lost>) -> String {
    match token {
        Ok(token) => token.header().to_str().unwrap().to_owned(),
        Err(lost) => format!("{} {}", lost.class, lost.message),
    }
}

#[tokio::test(start_paused = true)]
async fn one_token_serves_all_lanes_until_it_is_about_to_end() {
    let tokens = tokens(&auth(Grant::ClientCredentials));
    let endpoint = Endpoint::answering([granted("t1", 300), granted("t2", 300)]);
    let all = (0..64).map(|_| tokens.token(async |call| endpoint.ask(call).await));
    for token in futures_util::future::join_all(all).await {
        assert_eq!(shown(&token), "Bearer t1");
    }
    tokio::time::advance(Duration::from_secs(269)).await;
    assert_eq!(shown(&tokens.token(async |call| endpoint.ask(call).await).await), "Bearer t1");
    tokio::time::advance(Duration::from_secs(2)).await;
    // One renews it, the others do not wait.
    let all = (0..3).map(|_| tokens.token(async |call| endpoint.ask(call).await));
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all.iter().map(shown).collect::<Vec<_>>(), ["Bearer t2", "Bearer t1", "Bearer t1"]);
    assert_eq!(*endpoint.forms.borrow(), ["grant_type=client_credentials&scope=a+b"; 2]);
    let mask = Mask::default().and_learned(&tokens.learned);
    assert_eq!(mask.apply("token: t2"), "token: t2", "too short to be hidden");
}

#[test]
fn a_life_is_read_however_it_is_written() {
    for (said, want) in [
        ("3600", Some(3600.0)),
        ("3599.5", Some(3599.5)),
        ("\" 3600 \"", Some(3600.0)),
        ("\"1e3\"", Some(1000.0)),
        ("1e300", Some(2_592_000.0)),
        ("18446744073709551615", Some(2_592_000.0)),
        ("\"inf\"", Some(2_592_000.0)),
        ("0", None),
        ("-1", None),
        ("1e-300", None),
        ("\"nan\"", None),
        ("\"soon\"", None),
        ("null", None),
        ("[1]", None),
    ] {
        let life = life(&serde_json::from_str(said).unwrap());
        assert_eq!(life.map(|life| life.as_secs_f64()), want, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_which_no_life_is_told_serves_until_it_is_refused() {
    for said in ["0", "-5", "\"nan\""] {
        let tokens = tokens(&auth(Grant::ClientCredentials));
        let body = format!(r#"{{"access_token":"t1","expires_in":{said}}}"#);
        let endpoint = Endpoint::answering([reply(200, &body), granted("t2", 300)]);
        for _ in 0..3 {
            let token = tokens.token(async |call| endpoint.ask(call).await).await.unwrap();
            token.was_answered(false, false);
            tokio::time::advance(Duration::from_secs(100_000)).await;
        }
        let token = tokens.at_hand().unwrap();
        assert!(token.is_worth_renewing());
        let next = tokens.renew(&token, async |call| endpoint.ask(call).await).await;
        assert_eq!(shown(&next), "Bearer t2");
        assert_eq!(endpoint.forms.borrow().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_life_serves_more_than_one_request_and_never_after_its_end() {
    let tokens = tokens(&auth(Grant::ClientCredentials));
    let endpoint = Endpoint::answering([granted("t1", 10), granted("t2", 10)]);
    for (second, want) in [(0, "t1"), (3, "t1"), (6, "t1"), (9, "t2"), (12, "t2"), (15, "t2")] {
        let token = tokens.token(async |call| endpoint.ask(call).await).await;
        assert_eq!(shown(&token), format!("Bearer {want}"), "{second}");
        tokio::time::advance(Duration::from_secs(3)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_token_begins_when_it_is_asked_for() {
    let tokens = tokens(&auth(Grant::ClientCredentials));
    let endpoint = Endpoint::answering([granted("t1", 100), granted("t2", 100)]);
    let slowly = async |call| {
        tokio::time::advance(Duration::from_secs(50)).await;
        endpoint.ask(call).await
    };
    assert_eq!(shown(&tokens.token(slowly).await), "Bearer t1");
    assert!(tokens.at_hand().is_some());
    tokio::time::advance(Duration::from_secs(51)).await;
    assert!(tokens.at_hand().is_none());
    assert_eq!(shown(&tokens.token(slowly).await), "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_once_for_all_lanes_and_not_again() {
    let tokens = tokens(&auth(Grant::ClientCredentials));
    let endpoint = Endpoint::answering([granted("t1", 300), granted("t2", 300)]);
    let first = tokens.token(async |call| endpoint.ask(call).await).await.unwrap();
    assert!(first.is_worth_renewing());
    let all = (0..64).map(|_| tokens.renew(&first, async |call| endpoint.ask(call).await));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|token| shown(token) == "Bearer t2"));
    let second = all[0].as_ref().unwrap();
    assert!(!second.is_worth_renewing());
    second.was_answered(false, true);
    assert!(second.is_worth_renewing());
}

#[tokio::test(start_paused = true)]
async fn when_new_tokens_do_not_help_no_more_are_fetched() {
    let tokens = tokens(&auth(Grant::ClientCredentials));
    let endpoint = Endpoint::answering((0..5).map(|n| granted(&format!("t{n}"), 300)));
    let mut token = tokens.token(async |call| endpoint.ask(call).await).await.unwrap();
    // One request is always refused, others are not.
    for n in 0..MOST_IN_VAIN {
        token.was_answered(false, false);
        assert!(token.is_worth_renewing(), "{n}");
        token = tokens.renew(&token, async |call| endpoint.ask(call).await).await.unwrap();
        for _ in 0..64 {
            token.was_answered(true, true);
        }
    }
    token.was_answered(false, false);
    assert!(!token.is_worth_renewing());
    token.was_answered(false, true);
    assert!(token.is_worth_renewing());
}

#[test]
fn what_would_ask_for_the_same_tokens_shares_them() {
    let auth = OAuth2 { token_url: "https://shared.test/token".into(), ..auth(Grant::ClientCredentials) };
    let connection = fixtures::connection("https://api.test");
    let first = Tokens::shared(&auth, &connection).unwrap();
    assert!(Arc::ptr_eq(&first, &Tokens::shared(&auth, &connection).unwrap()));
    let mut other = auth.clone();
    other.client_secret = secret("another");
    assert!(!Arc::ptr_eq(&first, &Tokens::shared(&other, &connection).unwrap()));
    other = OAuth2 { form: Vec::new(), ..auth.clone() };
    assert!(!Arc::ptr_eq(&first, &Tokens::shared(&other, &connection).unwrap()));
    let mut elsewhere = connection.clone();
    elsewhere.proxy = Some("http://proxy.test".into());
    assert!(!Arc::ptr_eq(&first, &Tokens::shared(&auth, &elsewhere).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_refuses_is_not_asked_again() {
    let tokens = tokens(&auth(Grant::ClientCredentials));
    let body = r#"{"error":"invalid_client","error_description":"no \"id\""}"#;
    let endpoint = Endpoint::answering([reply(401, body)]);
    for _ in 0..2 {
        let all = (0..64).map(|_| tokens.token(async |call| endpoint.ask(call).await));
        for token in futures_util::future::join_all(all).await {
            let want = "token-refused the token endpoint login.test of connection `c` answered 401 \
                        invalid_client: \"no \\\"id\\\"\"";
            assert_eq!(shown(&token), want);
        }
    }
    for (status, body, want) in [
        (200, "{}", "200, without an `access_token`"),
        (200, "<html>", "200, without an `access_token`"),
        (200, r#"{"error":"invalid_grant"}"#, "200 invalid_grant, without an `access_token`"),
        (200, r#"{"access_token":""}"#, "200, without an `access_token`"),
        (200, r#"{"access_token":7}"#, "200, without an `access_token`"),
        (302, "", "answered 302"),
        (200, r#"{"access_token":"x","token_type":"mac"}"#, "type \"mac\""),
    ] {
        let tokens = self::tokens(&auth(Grant::ClientCredentials));
        let endpoint = Endpoint::answering([reply(status, body)]);
        let lost = tokens.token(async |call| endpoint.ask(call).await).await.err().unwrap();
        assert!(lost.is_final() && lost.certain && lost.message.contains(want), "{}", lost.message);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_is_asked_once_for_all_who_wait_and_then_again() {
    let tokens = tokens(&auth(Grant::ClientCredentials));
    let endpoint =
        Endpoint::answering([reply(503, ""), granted("t1", 100), reply(500, ""), granted("t2", 100)]);
    let all = (0..64).map(|_| tokens.token(async |call| endpoint.ask(call).await));
    for token in futures_util::future::join_all(all).await {
        assert_eq!(shown(&token), "token-unavailable the token endpoint login.test answered 503");
    }
    assert_eq!(shown(&tokens.token(async |call| endpoint.ask(call).await).await), "Bearer t1");
    // A renewal that fails while the token is good harms nobody.
    tokio::time::advance(Duration::from_secs(81)).await;
    assert_eq!(shown(&tokens.token(async |call| endpoint.ask(call).await).await), "Bearer t1");
    assert_eq!(endpoint.forms.borrow().len(), 3);
    assert_eq!(shown(&tokens.token(async |call| endpoint.ask(call).await).await), "Bearer t1");
    assert_eq!(endpoint.forms.borrow().len(), 3);
    tokio::time::advance(AGAIN).await;
    assert_eq!(shown(&tokens.token(async |call| endpoint.ask(call).await).await), "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn a_changed_refresh_token_is_used_from_then_on() {
    let tokens = tokens(&OAuth2 { send: ClientProof::Body, ..auth(Grant::RefreshToken(secret("r1"))) });
    let changed = r#"{"access_token":"token-1","expires_in":"100","refresh_token":"refresh-2"}"#;
    let endpoint =
        Endpoint::answering([reply(200, changed), granted("token-2", 100), granted("token-3", 100)]);
    for want in ["Bearer token-1", "Bearer token-2", "Bearer token-3"] {
        assert_eq!(shown(&tokens.token(async |call| endpoint.ask(call).await).await), want);
        tokio::time::advance(Duration::from_secs(100)).await;
    }
    let sent = ["r1", "refresh-2", "refresh-2"].map(|token| {
        format!("grant_type=refresh_token&refresh_token={token}&client_id=id+1&client_secret=pass%3Aword&scope=a+b")
    });
    assert_eq!(*endpoint.forms.borrow(), sent);
    let mask = Mask::default().and_learned(&tokens.learned);
    assert_eq!(mask.apply("token-1 token-3 refresh-2"), "*** *** ***");
}

#[test]
fn a_client_proves_itself_as_the_connection_says() {
    let user = Grant::Password { user: secret("u"), password: secret("p&w") };
    let tokens_of_user = tokens(&auth(user));
    let mask = Mask::default().and_learned(&tokens_of_user.learned);
    assert_eq!(mask.apply(&STANDARD.encode("id+1:pass%3Aword")), "***", "an endpoint may repeat it");
    let call = tokens_of_user.call(&Asking { refresh: None, failed: None });
    assert_eq!(call.headers["authorization"], format!("Basic {}", STANDARD.encode("id+1:pass%3Aword")));
    assert_eq!(&call.body[..], b"grant_type=password&username=u&password=p%26w&scope=a+b");
    let public = OAuth2 { client_secret: None, form: Vec::new(), ..auth(Grant::ClientCredentials) };
    let call = tokens(&public).call(&Asking { refresh: None, failed: None });
    assert!(!call.headers.contains_key("authorization"));
    assert_eq!(&call.body[..], b"grant_type=client_credentials&client_id=id+1");
}
