//! Certificates that are changed while the proxy runs.

use std::fs;

use super::authority::{Authority, Wish};
use super::client::{Client, Manner, certificates};
use super::{listen, proxy};
use crate::support::{PATIENCE, Proxy};

const TAKEN_UP: &str = "taken up anew";
const NOT_TAKEN_UP: &str = "not taken up";

async fn wait_for(proxy: &mut Proxy, words: &str, times: usize) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while proxy.log().matches(words).count() < times {
        assert!(std::time::Instant::now() < deadline, "{}", proxy.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_by_itself_and_no_connection_is_dropped() {
    let ca = Authority::new("reload");
    let server = ca.issue(Wish::default());
    let old = certificates(&server)[0].clone();
    let mut proxy = proxy(&listen(&server, "")).await;
    let address = proxy.addresses()[0].clone();
    let manner = Manner::new(ca.ca());
    let mut before = Client::connect(&address, &manner).await.unwrap();
    assert_eq!(before.certificate(), old);

    ca.issue_at(&server, Wish::default());
    let new = certificates(&server)[0].clone();
    wait_for(&mut proxy, TAKEN_UP, 1).await;
    let mut after = Client::connect(&address, &manner).await.unwrap();
    assert_eq!(after.certificate(), new);
    before.ping().await.unwrap();

    let expired = Wish {
        expired: true,
        ..Wish::default()
    };
    ca.issue_at(&server, expired);
    wait_for(&mut proxy, NOT_TAKEN_UP, 1).await;
    assert!(proxy.log().contains("the certificate ended on 2020-01-01"));
    let third = Client::connect(&address, &manner).await.unwrap();
    assert_eq!(third.certificate(), new);
    before.ping().await.unwrap();
    after.ping().await.unwrap();
}

#[tokio::test]
async fn an_authority_that_is_taken_from_the_file_lets_nobody_in_any_more() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let authorities = first.directory().join("clients.pem");
    fs::write(&authorities, first.text() + &second.text()).unwrap();
    let more = format!("client_ca = {authorities:?}\n");
    let mut proxy = proxy(&listen(&first.issue(Wish::default()), &more)).await;
    let address = proxy.addresses()[0].clone();
    let service = Wish {
        name: "service",
        ..Wish::default()
    };
    let of = |ca: &Authority| Manner {
        identity: Some(ca.issue(service)),
        ..Manner::new(first.ca())
    };
    let (stays, goes) = (of(&first), of(&second));
    for manner in [&stays, &goes] {
        Client::connect(&address, manner).await.unwrap();
    }
    fs::write(&authorities, first.text()).unwrap();
    proxy.process_mut().signal("HUP");
    wait_for(&mut proxy, TAKEN_UP, 1).await;
    Client::connect(&address, &stays).await.unwrap();
    assert!(Client::connect(&address, &goes).await.is_err());
}

#[tokio::test]
async fn certificates_and_schema_are_taken_up_together_or_not_at_all() {
    let ca = Authority::new("together");
    let server = ca.issue(Wish::default());
    let old = certificates(&server)[0].clone();
    let mut proxy = proxy(&listen(&server, "")).await;
    let address = proxy.addresses()[0].clone();
    fs::write(proxy.directory().join("schema.toml"), "no schema").unwrap();
    ca.issue_at(&server, Wish::default());
    proxy.process_mut().signal("HUP");
    wait_for(&mut proxy, NOT_TAKEN_UP, 1).await;
    let client = Client::connect(&address, &Manner::new(ca.ca()))
        .await
        .unwrap();
    assert_eq!(client.certificate(), old);
}
