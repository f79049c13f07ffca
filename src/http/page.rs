//! The live page, which is a part of the binary.

use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};

use super::Answer;

/// The page loads nothing but its own files, and talks to nobody but this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! assets {
    ($($name:literal: $content_type:expr),* $(,)?) => {
        &[$(($name, $content_type, include_str!(concat!("page/", $name)))),*]
    };
}

/// Name, content type, content.
const ASSETS: &[(&str, &str, &str)] = assets! {
    "style.css": "text/css; charset=utf-8",
    "favicon.svg": "image/svg+xml",
    "api.js": JAVASCRIPT,
    "app.js": JAVASCRIPT,
    "backoff.js": JAVASCRIPT,
    "connection.js": JAVASCRIPT,
    "editor.js": JAVASCRIPT,
    "products.js": JAVASCRIPT,
    "rate.js": JAVASCRIPT,
    "rows.js": JAVASCRIPT,
    "samples.js": JAVASCRIPT,
    "status.js": JAVASCRIPT,
    "subscriptions.js": JAVASCRIPT,
    "sync.js": JAVASCRIPT,
    "text.js": JAVASCRIPT,
    "token.js": JAVASCRIPT,
};

pub(super) fn index() -> Answer {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(super) fn asset(name: &str) -> Option<Answer> {
    let (_, content_type, content) = ASSETS.iter().find(|(known, ..)| *known == name)?;
    Some(file(content_type, content))
}

fn file(content_type: &'static str, content: &'static str) -> Answer {
    let mut answer = Answer::new(content.into());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page");
        let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.filter(|name| !matches!(&name[..], "index.html" | "package.json")).collect();
        files.sort();
        let mut served: Vec<_> = ASSETS.iter().map(|&(name, ..)| name).collect();
        served.sort_unstable();
        assert_eq!(served, files);
    }
}
