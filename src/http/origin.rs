//! Which pages of browsers may use this server: [`AllowedOrigins`].

/// The origins (RFC 6454) whose pages may open WebSockets, write, and read what they ask for. The server's own is always
/// among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    listed: Vec<String>,
}

impl AllowedOrigins {
    /// These and the server's own; `*` are all.
    ///
    /// # Errors
    /// The first that is no origin.
    pub fn new(given: Vec<String>) -> Result<Self, String> {
        let mut allowed = Self::default();
        for origin in given {
            if origin == "*" {
                allowed.any = true;
            } else if is_origin(&origin) {
                allowed.listed.push(origin.to_ascii_lowercase());
            } else {
                return Err(origin);
            }
        }
        Ok(allowed)
    }

    /// Whether a page of this origin may use the server that it reached as `host` (a name, and a port where it is not
    /// the usual one).
    #[must_use]
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.any || self.listed.contains(&origin) || host.is_some_and(|host| is_same(&origin, host))
    }
}

/// Whether a page of `origin` came from `host`. The scheme does not count: where TLS ends before this server, only the
/// browser knows that there was any.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let usual_port = if scheme == "https" { ":443" } else { ":80" };
    let without_port = |text: &str| text.strip_suffix(usual_port).unwrap_or(text).to_owned();
    without_port(authority) == without_port(&host.to_ascii_lowercase())
}

/// A scheme, a host, and a port where it is not the usual one: what browsers send, so without a path.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_authority = !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*\\,\"'".contains(&byte));
    is_scheme && is_authority
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
    fn what_is_no_origin_is_refused() {
        for wrong in
            ["", "shop.example", "https://", "https://shop.example/", "https://*.shop.example", "null", "http://a b"]
        {
            assert_eq!(AllowedOrigins::new(vec![wrong.to_owned()]), Err(wrong.to_owned()));
        }
    }
}
