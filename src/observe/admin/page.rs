//! The page for people: one answer that holds all it needs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");

/// The page, and what browsers may do with it.
pub(super) struct Page {
    /// The whole of it.
    pub(super) text: String,
    /// Its `Content-Security-Policy`: its own script and style and nothing else, whatever
    /// may come to stand in it.
    pub(super) policy: String,
}

impl Page {
    /// Puts its parts together.
    pub(super) fn assemble() -> Self {
        let (style, script) = (hash(CSS), hash(JS));
        Self {
            text: HTML.replace("{{style}}", CSS).replace("{{script}}", JS),
            policy: format!(
                "default-src 'none'; script-src '{script}'; style-src '{style}'; \
                 connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                 frame-ancestors 'none'"
            ),
        }
    }
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_for_anything() {
        let text = Page::assemble().text;
        assert!(text.contains(JS) && text.contains(CSS) && !text.contains("{{"));
        for way_out in ["http://", "https://", "//cdn", "@import", "url(", " src="] {
            let allowed = way_out == "http://" || !text.contains(way_out);
            assert!(allowed, "{way_out}");
        }
        // The one address in it names SVG and is never asked.
        let addresses = text.matches("http://").count();
        assert_eq!(
            addresses,
            text.matches("http://www.w3.org/2000/svg").count()
        );
    }

    #[test]
    fn what_clients_sent_is_never_taken_for_markup() {
        for danger in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "srcdoc",
            "setAttribute(\"on",
        ] {
            assert!(!JS.contains(danger), "{danger}");
        }
        assert!(!HTML.contains(" style=") && !HTML.contains(" onclick="));
    }
}
