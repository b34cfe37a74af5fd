//! `[telemetry]`: traces, sent by OTLP.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::load::Checker;
use crate::document::{Keys, Node, Place, Value};
use crate::keyring::UnsealSource;

const TELEMETRY: Keys = Keys {
    of: "`telemetry`",
    known: &["endpoint", "ca", "one_in", "service_name", "headers"],
    later: &[],
};

/// What is traced, unless it is said: one command in so many.
const DEFAULT_ONE_IN: u32 = 100;

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The collector's address for OTLP over HTTP, without a path: `http://host:4318`.
    pub endpoint: String,
    /// The authorities of its certificate; none means those that the web trusts.
    pub ca: Option<PathBuf>,
    /// One command in so many is traced, beside those whose client asks for it; 0: only those.
    pub one_in: u32,
    /// What this proxy is called in them.
    pub service_name: String,
    /// Where the values are of the headers that are sent along, as an authorisation.
    pub headers: BTreeMap<String, UnsealSource>,
}

impl Checker {
    pub(super) fn telemetry(&mut self, place: &Place, node: &Node) -> Option<TelemetryConfig> {
        let table = self.reader.table(place, node, &TELEMETRY);
        let endpoint = (self.required(place, table, "endpoint")).and_then(|(at, node)| {
            let text = self.reader.name(&at, node)?.trim_end_matches('/');
            let rest = (text.strip_prefix("http://")).or_else(|| text.strip_prefix("https://"));
            if rest.is_none_or(|host| host.is_empty() || host.contains(['/', '@', '?', '#', ' '])) {
                let what = "must be the collector's address for OTLP over HTTP, without a path: \"http://127.0.0.1:4318\"";
                self.reader.mistake(&at, what);
                return None;
            }
            Some(text.to_owned())
        });
        let ca = table.entry(place, "ca");
        if let (Some((at, _)), Some(endpoint)) = (&ca, &endpoint)
            && !endpoint.starts_with("https://")
        {
            self.reader
                .mistake(at, "is for an `endpoint` of https:// only");
        }
        let ca = ca.and_then(|(at, node)| self.path(&at, node));
        let one_in = (table.entry(place, "one_in"))
            .and_then(|(at, node)| self.reader.integer(&at, node, 0, u32::MAX.into()))
            .and_then(|number| u32::try_from(number).ok());
        let service_name = (table.entry(place, "service_name"))
            .and_then(|(at, node)| self.reader.name(&at, node))
            .map(str::to_owned);
        let headers = (table.entry(place, "headers"))
            .map(|(at, node)| self.headers(&at, node))
            .unwrap_or_default();
        Some(TelemetryConfig {
            endpoint: endpoint?,
            ca,
            one_in: one_in.unwrap_or(DEFAULT_ONE_IN),
            service_name: service_name.unwrap_or_else(|| "fieldseal".to_owned()),
            headers,
        })
    }

    fn headers(&mut self, place: &Place, node: &Node) -> BTreeMap<String, UnsealSource> {
        let Value::Table(entries) = &node.value else {
            let what = "must be a table of header names, each with { file = \"…\" }, { env = \"NAME\" } or { command = […] }";
            self.reader.mistake(place, what);
            return BTreeMap::new();
        };
        let mut headers = BTreeMap::new();
        for entry in entries {
            let at = place.of(entry);
            if let Some(source) = self.secret(&at, &entry.node) {
                headers.insert(entry.key.clone(), source);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigErrors};

    fn parse(telemetry: &str) -> Result<Config, ConfigErrors> {
        let text = format!(
            "schema = \"s.toml\"\n[keyring]\nfile = \"k\"\nunseal = {{ file = \"u\" }}\n\
             [[route]]\nlisten = \"127.0.0.1:1\"\nupstream = \"127.0.0.1:2\"\n{telemetry}"
        );
        Config::parse(&text, Path::new("/etc/f.toml"), [])
    }

    #[test]
    fn it_needs_the_collectors_address_only() {
        assert_eq!(parse("").unwrap().telemetry, None);
        let telemetry = parse("[telemetry]\nendpoint = \"http://127.0.0.1:4318/\"").unwrap();
        let expected = TelemetryConfig {
            endpoint: "http://127.0.0.1:4318".to_owned(),
            ca: None,
            one_in: 100,
            service_name: "fieldseal".to_owned(),
            headers: BTreeMap::new(),
        };
        assert_eq!(telemetry.telemetry, Some(expected));
    }

    #[test]
    fn an_address_is_one_of_http_without_anything_behind_it() {
        for wrong in [
            "127.0.0.1:4318",
            "grpc://a:4317",
            "http://",
            "http://u:p@a",
            "http://a/v1/traces",
        ] {
            let error = parse(&format!("[telemetry]\nendpoint = {wrong:?}")).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("telemetry.endpoint"), "{error}");
        }
    }

    #[test]
    fn authorities_are_for_https_only() {
        let with = |endpoint: &str| {
            parse(&format!(
                "[telemetry]\nca = \"ca.pem\"\nendpoint = {endpoint:?}"
            ))
        };
        let telemetry = with("https://a:4318").unwrap().telemetry.unwrap();
        assert_eq!(telemetry.ca, Some("/etc/ca.pem".into()));
        let error = with("http://a:4318").unwrap_err().to_string();
        assert!(error.contains("telemetry.ca"), "{error}");
    }

    #[test]
    fn the_values_of_headers_stand_elsewhere() {
        let with = |value: &str| {
            let text =
                "[telemetry]\nendpoint = \"https://a\"\none_in = 0\nheaders = { Authorization = ";
            parse(&format!("{text}{value} }}"))
        };
        let telemetry = with("{ env = \"OTLP\" }").unwrap().telemetry.unwrap();
        assert_eq!(telemetry.one_in, 0);
        let source = UnsealSource::Env("OTLP".to_owned());
        assert_eq!(telemetry.headers["Authorization"], source);
        let error = with("\"hunter2\"").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
