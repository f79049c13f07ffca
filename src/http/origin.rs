//! The pages of browsers that may use this server: [`AllowedOrigins`].

use hyper::http::uri::{Authority, Scheme};

/// The origins of pages that have no host, as they are sent: by sandboxed frames and local files (RFC 6454, §7.3), and
/// by clients on small devices. Nobody can tell one of these from another, so they are allowed only by name.
const WITHOUT_HOST: [&str; 2] = ["null", "file://"];

/// The origins (RFC 6454) whose pages may open WebSockets, write, and read what they ask for. The server's own is
/// always among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    listed: Vec<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    WithoutHost(String),
    /// Both compare without regard to case.
    Of(Scheme, Authority),
}

impl Origin {
    /// Reads a scheme, a host, and a port where it is not the usual one, as browsers send them, so without a path; or
    /// one of [`WITHOUT_HOST`] to the letter.
    fn parse(text: &str) -> Option<Self> {
        if WITHOUT_HOST.contains(&text) {
            return Some(Self::WithoutHost(text.to_owned()));
        }
        let (scheme, authority) = text.split_once("://")?;
        // http::uri takes a scheme without a letter. An authority may have both of these characters; the one is no part
        // of an origin, the other would be taken for a wildcard.
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || authority.contains(['@', '*']) {
            return None;
        }
        Some(Self::Of(scheme.parse().ok()?, authority.parse().ok()?))
    }

    /// Tells whether its page came from `host`. The scheme only gives the usual port: where TLS ends before this
    /// server, only the browser knows that there was any.
    fn is_from(&self, host: &str) -> bool {
        let Self::Of(scheme, authority) = self else { return false };
        let Ok(host) = host.parse::<Authority>() else { return false };
        let usual = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
        authority.host().eq_ignore_ascii_case(host.host()) && port(authority) == port(&host)
    }
}

impl AllowedOrigins {
    /// Allows these and the server's own; `*` are all.
    ///
    /// # Errors
    /// The first that is no origin.
    pub fn new(given: Vec<String>) -> Result<Self, String> {
        let mut allowed = Self::default();
        for origin in given {
            if origin == "*" {
                allowed.any = true;
            } else {
                allowed.listed.push(Origin::parse(&origin).ok_or(origin)?);
            }
        }
        Ok(allowed)
    }

    /// Tells whether a page of this origin may use the server that it reached as `host` (a name, and a port where it is
    /// not the usual one).
    #[must_use]
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let is_listed_or_own =
            |origin: Origin| self.listed.contains(&origin) || host.is_some_and(|host| origin.is_from(host));
        self.any || Origin::parse(origin).is_some_and(is_listed_or_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &[&str]) -> AllowedOrigins {
        AllowedOrigins::new(origins.iter().map(|&origin| origin.to_owned()).collect()).unwrap()
    }

    #[test]
    fn the_same_origin_is_the_same_host_and_port_whatever_the_scheme() {
        let own = AllowedOrigins::default();
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("https://Shop.example", "shop.EXAMPLE"),
            ("https://shop.example", "shop.example:443"),
            ("http://shop.example:80", "shop.example"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
        ] {
            assert!(own.allows(origin, Some(host)), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://localhost:8081", "localhost:8080"),
            ("http://localhost", "localhost:8080"),
            ("http://127.0.0.1:8080", "localhost:8080"),
            ("http://shop.example.evil.example", "shop.example"),
            ("http://evil.example/shop.example", "shop.example"),
            ("https://shop.example", "shop.example:80"),
            ("null", "null"),
            ("file://", ""),
            ("file://", "file"),
            ("http://user@shop.example", "shop.example"),
            ("", ""),
            ("shop.example", "shop.example"),
        ] {
            assert!(!own.allows(origin, Some(host)), "{origin} {host}");
        }
        assert!(!own.allows("http://localhost", None));
    }

    #[test]
    fn what_is_listed_is_allowed_and_so_is_the_servers_own() {
        let listed = allowed(&["https://Shop.example", "http://localhost:5173"]);
        for origin in ["https://shop.example", "http://localhost:5173", "http://own.example"] {
            assert!(listed.allows(origin, Some("own.example")), "{origin}");
        }
        for origin in ["http://shop.example", "https://shop.example:444", "https://a.shop.example", "null"] {
            assert!(!listed.allows(origin, Some("own.example")), "{origin}");
        }
        assert!(allowed(&["*"]).allows("null", None));
    }

    #[test]
    fn a_page_without_a_host_is_allowed_where_its_origin_is_named_to_the_letter() {
        for named in WITHOUT_HOST {
            let listed = allowed(&["https://shop.example", named]);
            for origin in WITHOUT_HOST {
                assert_eq!(
                    listed.allows(origin, Some("own.example")),
                    origin == named,
                    "{origin} where {named} is named"
                );
                assert!(!allowed(&["https://shop.example"]).allows(origin, Some("own.example")));
            }
            for other in ["NULL", "null ", "null:", "File://", "file:///", "file://host", "file:"] {
                assert!(!listed.allows(other, Some("own.example")), "{other} where {named} is named");
            }
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for wrong in [
            "",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example?a",
            "https://*.shop.example",
            "https://user@shop.example",
            "://shop.example",
            "1http://shop.example",
            "ht tp://shop.example",
            "NULL",
            "file:///",
            "http://a b",
        ] {
            assert_eq!(AllowedOrigins::new(vec![wrong.to_owned()]), Err(wrong.to_owned()));
        }
    }
}
