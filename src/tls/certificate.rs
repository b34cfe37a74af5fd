//! What a certificate says of its owner and of its time: the few fields of X.509 that are
//! needed here (RFC 5280, section 4.1). Whether to believe it is decided by `rustls` before.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls;

use super::name;

mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const VERSION: u8 = 0xA0;
    pub(super) const ISSUER_ID: u8 = 0x81;
    pub(super) const SUBJECT_ID: u8 = 0x82;
    pub(super) const EXTENSIONS: u8 = 0xA3;
    pub(super) const EMAIL: u8 = 0x81;
    pub(super) const DNS: u8 = 0x82;
    pub(super) const URI: u8 = 0x86;
    pub(super) const IP: u8 = 0x87;
}

/// `id-ce-subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];

/// Whom a client's certificate names. It was verified before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject as RFC 4514 writes it, which is how MongoDB names X.509 users:
    /// `CN=shop,OU=services,O=MusicCorp`. Empty if the certificate has none.
    pub subject: String,
    /// The alternative names of the kinds that are known here, in the certificate's order.
    pub names: Vec<AlternativeName>,
}

/// An alternative name of a certificate's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlternativeName {
    /// A DNS name, perhaps with a `*`.
    Dns(String),
    /// An e-mail address.
    Email(String),
    /// A URI, as SPIFFE has them.
    Uri(String),
    /// An IP address.
    Ip(IpAddr),
}

impl fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Email(name) => write!(f, "email:{name}"),
            Self::Uri(name) => write!(f, "URI:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
        }
    }
}

/// A certificate does not have the form that RFC 5280 gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is not a well-formed X.509 certificate")]
pub struct MalformedCertificate;

/// A moment, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

/// A certificate's own fields, as far as they are used.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) client: ClientCertificate,
    pub(super) not_before: Moment,
    pub(super) not_after: Moment,
}

impl ClientCertificate {
    /// Reads a certificate that was verified.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, MalformedCertificate> {
        Ok(Certificate::read(certificate)?.client)
    }

    /// Whether `name` is its subject or, with or without the kind before it (`DNS:`), one of
    /// its alternative names.
    pub fn is_called(&self, name: &str) -> bool {
        // What an authority lets its holder choose, such as a URI, must not be taken for the
        // subject or for a name of another kind.
        let bare = !says_its_kind(name);
        let alternative = |known: &AlternativeName| {
            let full = known.to_string();
            full == name || bare && full.split_once(':').is_some_and(|(_, bare)| bare == name)
        };
        (!self.subject.is_empty() && self.subject == name) || self.names.iter().any(alternative)
    }
}

/// Whether a name is one of a subject, or has its kind before it.
fn says_its_kind(name: &str) -> bool {
    let kind = name.split_once(':').map(|(kind, _)| kind);
    let attribute = name.split_once('=').map(|(attribute, _)| attribute);
    kind.is_some_and(|kind| matches!(kind, "DNS" | "email" | "URI" | "IP"))
        || attribute.is_some_and(|attribute| {
            attribute
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
        })
}

impl Certificate {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<Self, MalformedCertificate> {
        Self::parse(certificate).ok_or(MalformedCertificate)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut outer = Der(bytes);
        let mut certificate = Der(outer.take(tag::SEQUENCE)?);
        if !outer.is_empty() {
            return None;
        }
        let mut fields = Der(certificate.take(tag::SEQUENCE)?);
        fields.skip_if(tag::VERSION)?;
        fields.take(tag::INTEGER)?;
        // The algorithm of the signature, and the issuer.
        fields.take(tag::SEQUENCE)?;
        fields.take(tag::SEQUENCE)?;
        let mut validity = Der(fields.take(tag::SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = name::rfc4514(fields.take(tag::SEQUENCE)?)?;
        // The public key.
        fields.take(tag::SEQUENCE)?;
        fields.skip_if(tag::ISSUER_ID)?;
        fields.skip_if(tag::SUBJECT_ID)?;
        let names = if fields.is_empty() {
            Vec::new()
        } else {
            alternative_names(fields.take(tag::EXTENSIONS)?)?
        };
        Some(Self {
            client: ClientCertificate { subject, names },
            not_before,
            not_after,
        })
    }
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<AlternativeName>> {
    let mut extensions = Der(Der(extensions).take(tag::SEQUENCE)?);
    while !extensions.is_empty() {
        let mut extension = Der(extensions.take(tag::SEQUENCE)?);
        let oid = extension.take(tag::OID)?;
        extension.skip_if(tag::BOOLEAN)?;
        let value = extension.take(tag::OCTET_STRING)?;
        if oid != ALTERNATIVE_NAMES {
            continue;
        }
        let mut list = Der(Der(value).take(tag::SEQUENCE)?);
        let mut names = Vec::new();
        while !list.is_empty() {
            let (kind, value) = list.next()?;
            names.extend(match kind {
                tag::DNS => Some(AlternativeName::Dns(printable(value)?)),
                tag::EMAIL => Some(AlternativeName::Email(printable(value)?)),
                tag::URI => Some(AlternativeName::Uri(printable(value)?)),
                tag::IP => Some(AlternativeName::Ip(address(value)?)),
                // Directory names and such, which nothing here goes by.
                _ => None,
            });
        }
        return Some(names);
    }
    Some(Vec::new())
}

/// An IA5String without what could end a name early or start a line in a log.
fn printable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !text.is_empty()).then(|| text.to_owned())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

/// Values in DER, one after the other.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next value with its tag. Lengths of more than three bytes are none of a certificate.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(*first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let length = bytes
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, value))
    }

    /// The next value, which has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, value) = self.next()?;
        (found == tag).then_some(value)
    }

    /// Passes over a value that may be left out.
    fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.next()?;
        }
        Some(())
    }

    fn time(&mut self) -> Option<Moment> {
        let (tag, value) = self.next()?;
        let text = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
        let (year, rest) = match tag {
            tag::UTC_TIME => {
                let (year, rest) = digits(text, 2)?;
                // RFC 5280, section 4.1.2.5.1.
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            tag::GENERALIZED_TIME => digits(text, 4)?,
            _ => return None,
        };
        let (month, rest) = digits(rest, 2)?;
        let (day, rest) = digits(rest, 2)?;
        let (hour, rest) = digits(rest, 2)?;
        let (minute, rest) = digits(rest, 2)?;
        let (second, rest) = digits(rest, 2)?;
        let right = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 61
            && rest.is_empty();
        right.then(|| Moment(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second))
    }
}

fn digits(text: &str, count: usize) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((plain.then(|| number.parse().ok())??, rest))
}

/// Days since 1970-01-01, in the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

impl Moment {
    pub(super) fn now() -> Self {
        Self(i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX))
    }

    /// The same as the system counts it.
    pub(super) fn time(self) -> SystemTime {
        let seconds = Duration::from_secs(self.0.unsigned_abs());
        let time = match self.0 < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(seconds),
            false => SystemTime::UNIX_EPOCH.checked_add(seconds),
        };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(super) fn in_days(self, days: i64) -> Self {
        Self(self.0.saturating_add(days * 24 * 60 * 60))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The inverse of `days`.
        let since = self.0.div_euclid(24 * 60 * 60) + 719_468;
        let era = since.div_euclid(146_097);
        let day_of_era = since.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        write!(f, "{year}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_subject_is_written_as_mongodb_writes_it() {
        let read = |der| ClientCertificate::read(&der).unwrap().subject;
        let der = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CountryName, "CZ");
            name.push(DnType::OrganizationName, "Music, Corp");
            name.push(DnType::OrganizationalUnitName, " shops \u{17d}");
            name.push(DnType::CommonName, "#shop+\"1\"");
        });
        assert_eq!(
            read(der),
            "CN=\\#shop\\+\\\"1\\\",OU=\\ shops \u{17d},O=Music\\, Corp,C=CZ"
        );
        assert_eq!(read(certificate(|_| {})), "");
    }

    #[test]
    fn alternative_names_of_every_kind_are_read() {
        let der = certificate(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("shop.example".try_into().unwrap()),
                SanType::Rfc822Name("ops@shop.example".try_into().unwrap()),
                SanType::URI("spiffe://shop/cart".try_into().unwrap()),
                SanType::IpAddress("::1".parse().unwrap()),
                SanType::IpAddress("10.1.2.3".parse().unwrap()),
            ];
        });
        let names = ClientCertificate::read(&der).unwrap().names;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "DNS:shop.example",
                "email:ops@shop.example",
                "URI:spiffe://shop/cart",
                "IP:::1",
                "IP:10.1.2.3"
            ]
        );
    }

    #[test]
    fn an_alternative_name_is_taken_for_none_of_another_kind_and_for_no_subject() {
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "cart");
            params.subject_alt_names = vec![
                SanType::URI("CN=billing,O=Shop".try_into().unwrap()),
                SanType::URI("DNS:billing.example".try_into().unwrap()),
                SanType::URI("spiffe://shop/cart?x=1".try_into().unwrap()),
                SanType::Rfc822Name("IP:10.0.0.1".try_into().unwrap()),
            ];
        });
        let read = ClientCertificate::read(&der).unwrap();
        for name in ["CN=cart", "URI:CN=billing,O=Shop", "spiffe://shop/cart?x=1"] {
            assert!(read.is_called(name), "{name}");
        }
        for name in [
            "cart",
            "CN=billing,O=Shop",
            "DNS:billing.example",
            "IP:10.0.0.1",
        ] {
            assert!(!read.is_called(name), "{name}");
        }
    }

    #[test]
    fn the_time_of_a_certificate_is_read_in_both_forms() {
        for (year, month, day) in [
            (1970, 1, 1),
            (1999, 12, 31),
            (2024, 2, 29),
            (2049, 12, 31),
            // From 2050 on in another form.
            (2050, 1, 1),
            (2100, 3, 1),
            (4096, 1, 1),
        ] {
            let at = date_time_ymd(year, month, day);
            let der = certificate(|params| params.not_after = at);
            let read = Certificate::read(&der).unwrap().not_after;
            assert_eq!(read, Moment(at.unix_timestamp()));
            assert_eq!(read.to_string(), format!("{year}-{month:02}-{day:02}"));
        }
    }

    #[test]
    fn a_certificate_that_was_cut_or_changed_is_an_error_and_never_a_panic() {
        let der = certificate(|params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "shop.example");
            params.subject_alt_names = vec![SanType::DnsName("shop.example".try_into().unwrap())];
        });
        for length in 0..der.len() {
            assert!(Certificate::parse(&der[..length]).is_none(), "{length}");
        }
        for position in 0..der.len() {
            for value in [0, 0x7F, 0x80, 0x84, 0xFF] {
                let mut changed = der.to_vec();
                changed[position] = value;
                let _ = Certificate::parse(&changed);
            }
        }
        assert!(Certificate::parse(&[&der[..], &[0]].concat()).is_none());
    }

    #[test]
    fn a_name_with_a_nul_is_refused() {
        assert_eq!(printable(b"shop.example\0.evil"), None);
        assert_eq!(printable(b"a\nb"), None);
        assert_eq!(address(&[1, 2, 3]), None);
    }
}
