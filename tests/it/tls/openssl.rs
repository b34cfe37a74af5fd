//! The listener as openssl's client sees it, and as clients do that speak what openssl no longer
//! does: no version, suite or option below what is configured.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::authority::{Authority, Wish};
use super::{listen, proxy};
use crate::support::Proxy;
use crate::support::wire::Wire;

/// The suites of TLS 1.2 that are spoken where it is allowed, with a key of each kind.
const WITH_ECDSA: [&str; 3] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
];
const WITH_RSA: [&str; 3] = [
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// All suites of TLS 1.3 that openssl has, and those of them that are spoken.
const NEWEST: [&str; 5] = [
    "TLS_AES_128_CCM_8_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// openssl offers even what is broken.
const ALL: &str = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";

fn is_here() -> bool {
    let here = Command::new("openssl").arg("version").output().is_ok();
    if !here {
        eprintln!("!!! openssl is not here: its client was NOT tried against the listener");
    }
    here
}

/// What openssl's client says of a connection, with these lines typed into it.
fn client(address: &str, ca: &Path, arguments: &[&str], typed: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", address, "-verify_return_error"])
        .arg("-CAfile")
        .arg(ca)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It may have ended already.
    let _ = input.write_all(typed.as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The suite of a handshake that came to its end.
fn suite(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("Cipher is ")?;
    let name = rest.split_whitespace().next()?;
    // What it says of the certificate where none came is that it is all right.
    (name != "(NONE)" && said.contains("Verify return code: 0 (ok)")).then_some(name)
}

/// All suites that are agreed on in a version, found by taking away those that were.
fn accepted(address: &str, ca: &Path, version: &str) -> Vec<String> {
    let newest = version == "-tls1_3";
    let mut offered: Vec<String> = if newest {
        NEWEST.map(str::to_owned).into()
    } else {
        let listed = Command::new("openssl").args(["ciphers", ALL]).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        let names = listed.trim().split(':').map(str::to_owned);
        names.filter(|name| !name.starts_with("TLS_")).collect()
    };
    assert!(newest || offered.len() > 50, "openssl offers {offered:?}");
    let mut found = Vec::new();
    while !offered.is_empty() {
        let names = offered.join(":");
        let weakest = format!("{names}:@SECLEVEL=0");
        let arguments = if newest {
            [version, "-ciphersuites", &names]
        } else {
            [version, "-cipher", &weakest]
        };
        let said = client(address, ca, &arguments, "");
        let Some(name) = suite(&said) else { break };
        assert!(offered.iter().any(|one| one == name), "{name}");
        offered.retain(|one| one != name);
        found.push(name.to_owned());
    }
    found.sort();
    found
}

/// A certificate with an RSA key, which is its own authority.
fn rsa(directory: &Path) -> PathBuf {
    let (file, key) = (directory.join("rsa.pem"), directory.join("rsa-key.pem"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=rsa", "-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-out")
        .arg(&file)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let both = std::fs::read_to_string(&file).unwrap() + &std::fs::read_to_string(&key).unwrap();
    std::fs::write(&file, both).unwrap();
    file
}

/// Proxies that speak TLS 1.3 alone and TLS 1.2 as well.
async fn both(identity: &Path) -> [Proxy; 2] {
    let older = listen(identity, "min_version = \"1.2\"\n");
    [proxy(&listen(identity, "")).await, proxy(&older).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_gets_no_version_or_suite_below_the_configured() {
    if !is_here() {
        return;
    }
    let ca = Authority::new("openssl");
    let with_ecdsa = (ca.issue(Wish::default()), ca.ca(), WITH_ECDSA);
    let file = rsa(ca.directory());
    let with_rsa = (file.clone(), file, WITH_RSA);
    for (identity, ca, suites) in [with_ecdsa, with_rsa] {
        let [newest, older] = both(&identity).await;
        let of = |proxy: &Proxy, version| accepted(&proxy.addresses()[0], &ca, version);
        for proxy in [&newest, &older] {
            assert_eq!(of(proxy, "-tls1_3"), NEWEST[2..]);
            for version in ["-tls1_1", "-tls1"] {
                assert!(of(proxy, version).is_empty(), "{version}");
            }
        }
        assert!(of(&newest, "-tls1_2").is_empty());
        assert_eq!(of(&older, "-tls1_2"), suites);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_gets_no_old_signature_no_compression_no_renegotiation_and_no_resumption() {
    if !is_here() {
        return;
    }
    let ca = Authority::new("options");
    let [_, older] = both(&ca.issue(Wish::default())).await;
    let (address, ca_file) = (older.addresses()[0].clone(), ca.ca());
    let with = |arguments: &[&str], typed: &str| client(&address, &ca_file, arguments, typed);
    assert!(suite(&with(&["-tls1_2", "-sigalgs", "ECDSA+SHA256"], "")).is_some());
    let old = ["-tls1_2", "-sigalgs", "ECDSA+SHA1", "-cipher", ALL];
    assert_eq!(suite(&with(&old, "")), None);

    let said = with(&["-tls1_2", "-comp", "-legacy_renegotiation"], "");
    assert!(suite(&said).is_some(), "{said}");
    assert!(said.contains("Compression: NONE"), "{said}");

    // `R` asks for it; then the connection goes on, or is closed.
    let said = with(&["-tls1_2"], "R\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");

    // It keeps what it was given to come back with: nothing.
    for version in ["-tls1_2", "-tls1_3"] {
        let session = ca.directory().join(version);
        let said = with(&[version, "-sess_out", session.to_str().unwrap()], "");
        assert!(suite(&said).is_some(), "{said}");
        assert!(!session.exists(), "{version}: {said}");
    }
}

/// How a server answers the first message of a client.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    /// It goes on, with this version, suite and compression.
    Hello(u16, u16, u8),
    /// It says that it does not, or says nothing.
    No,
}

/// A `ClientHello` as clients of any version before 1.3 say it, made by hand.
fn hello(version: u16, suites: &[u16], compressions: &[u8]) -> Vec<u8> {
    let vector16 = |bytes: Vec<u8>| {
        [
            &u16::try_from(bytes.len()).unwrap().to_be_bytes()[..],
            &bytes,
        ]
        .concat()
    };
    let list = |numbers: &[u16]| {
        numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect()
    };
    let extension =
        |kind: u16, body: Vec<u8>| [kind.to_be_bytes().to_vec(), vector16(body)].concat();
    let extensions = [
        // Groups, formats of points, and signatures: with the key's own among them.
        extension(10, vector16(list(&[29, 23, 24]))),
        extension(11, vec![1, 0]),
        extension(
            13,
            vector16(list(&[0x0403, 0x0503, 0x0804, 0x0401, 0x0203, 0x0201])),
        ),
        extension(23, Vec::new()),
        extension(0xFF01, vec![0]),
    ]
    .concat();
    let body = [
        &version.to_be_bytes()[..],
        &[7; 32],
        &[0],
        &vector16(list(suites)),
        &[u8::try_from(compressions.len()).unwrap()],
        compressions,
        &vector16(extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22][..], &version.to_be_bytes(), &vector16(message)].concat()
}

async fn answer(proxy: &Proxy, hello: &[u8]) -> Answer {
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    wire.send(hello).await;
    wire.finish().await;
    let bytes = wire.rest().await;
    // A record of the handshake, and in it a `ServerHello`.
    if bytes.first() != Some(&22) || bytes.get(5) != Some(&2) {
        return Answer::No;
    }
    let number = |at: usize| u16::from_be_bytes(*bytes[at..].first_chunk().unwrap());
    // Version, random, session id.
    let suite = 11 + 32 + 1 + usize::from(bytes[43]);
    Answer::Hello(number(9), number(suite), bytes[suite + 2])
}

#[tokio::test]
async fn what_openssl_no_longer_speaks_is_refused_too() {
    const STRONG: u16 = 0xC02B;
    let ca = Authority::new("by hand");
    let [newest, older] = both(&ca.issue(Wish::default())).await;
    // The hand-made message is one that is taken, where it is.
    let strong = hello(0x0303, &[STRONG], &[0]);
    assert_eq!(
        answer(&older, &strong).await,
        Answer::Hello(0x0303, STRONG, 0)
    );
    assert_eq!(answer(&newest, &strong).await, Answer::No);
    let packed = hello(0x0303, &[STRONG], &[1, 0]);
    assert_eq!(
        answer(&older, &packed).await,
        Answer::Hello(0x0303, STRONG, 0)
    );
    let packed = hello(0x0303, &[STRONG], &[1]);
    assert_eq!(answer(&older, &packed).await, Answer::No);

    // SSL 3.0, TLS 1.0 and 1.1, with suites of their time and of today.
    let mut refused: Vec<(String, Vec<u8>)> = [0x0300, 0x0301, 0x0302]
        .map(|version| {
            let suites = [STRONG, 0xC009, 0xC013, 0x002F, 0x0035, 0x000A, 0x0005];
            (
                format!("version {version:x}"),
                hello(version, &suites, &[0]),
            )
        })
        .into();
    for (what, suites) in [
        ("NULL", &[0x0001, 0x0002, 0x003B, 0xC006, 0xC010][..]),
        ("export", &[0x0003, 0x0006, 0x0008, 0x0014]),
        ("RC4", &[0x0004, 0x0005, 0xC007, 0xC011]),
        ("DES", &[0x0009, 0x0015]),
        ("3DES", &[0x000A, 0x0016, 0xC008, 0xC012]),
        ("CBC", &[0xC009, 0xC00A, 0xC023, 0xC024, 0xC013, 0xC027]),
        (
            "RSA key exchange",
            &[0x002F, 0x0035, 0x003C, 0x009C, 0x009D],
        ),
        ("finite fields", &[0x0033, 0x0067, 0x009E, 0x009F, 0xCCAA]),
        ("anonymous", &[0x0018, 0x0034, 0x006C, 0x00A6, 0xC018]),
        ("pre-shared keys", &[0x008C, 0x00A8, 0xC037, 0xD001]),
        ("CCM", &[0xC0AC, 0xC0AE]),
    ] {
        refused.push((what.to_owned(), hello(0x0303, suites, &[0])));
    }
    // SSL 2.0: a length with its first bit set, then its own `CLIENT-HELLO`.
    let challenge = [9; 16];
    let old = [
        &[0x80, 0x1C, 1, 0, 2, 0, 3, 0, 0, 0, 16, 1, 0, 0x80][..],
        &challenge,
    ]
    .concat();
    refused.push(("SSL 2.0".to_owned(), old));
    for (what, bytes) in refused {
        for proxy in [&newest, &older] {
            assert_eq!(answer(proxy, &bytes).await, Answer::No, "{what}");
        }
    }
}
