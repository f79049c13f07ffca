//! The protocol as programs read it: `/openapi.json` and `/asyncapi.json`, which are kept by hand in `docs/`.

use hyper::StatusCode;
use hyper::header::CACHE_CONTROL;

use super::resource::json;
use super::{Answer, page};

/// All paths, in `OpenAPI` 3.1 (<https://spec.openapis.org/oas/v3.1.0>).
const OPENAPI: &str = include_str!("../../docs/openapi.json");
/// The messages of a WebSocket, in `AsyncAPI` 3.0 (<https://www.asyncapi.com/docs/reference/specification/v3.0.0>).
const ASYNCAPI: &str = include_str!("../../docs/asyncapi.json");

/// Answers `GET /openapi.json`.
pub(super) fn openapi() -> Answer {
    document(OPENAPI)
}

/// Answers `GET /asyncapi.json`.
pub(super) fn asyncapi() -> Answer {
    document(ASYNCAPI)
}

fn document(text: &'static str) -> Answer {
    let mut answer = json(StatusCode::OK, text.into());
    answer.headers_mut().insert(CACHE_CONTROL, page::ASSET_KEPT);
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use hyper::Method;
    use serde_json::Value;

    use super::super::routes::{ROUTES, Route, Who};
    use super::*;
    use crate::config::Cli;
    use crate::session::close::CloseReason;
    use crate::session::refusal::Code;

    const PAGE: &str = include_str!("../../docs/protocol.md");

    fn document(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn names(object: &Value) -> impl Iterator<Item = &str> {
        object.as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// The rows of the page's table with this head.
    fn rows(head: &str) -> Vec<Vec<&'static str>> {
        let (_, table) = PAGE.split_once(&format!("\n{head}\n")).unwrap_or_else(|| panic!("no table {head}"));
        let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
    }

    /// What stands first in the rows of the page's table with this head.
    fn listed(head: &str) -> BTreeSet<String> {
        rows(head).iter().map(|row| row[0].trim_matches('`').to_owned()).collect()
    }

    #[test]
    fn the_documents_are_of_this_version() {
        for text in [OPENAPI, ASYNCAPI] {
            assert_eq!(document(text)["info"]["version"], env!("CARGO_PKG_VERSION"), "set info.version in docs/*.json");
        }
    }

    #[test]
    fn openapi_has_every_route_and_no_other() {
        let openapi = document(OPENAPI);
        let described = |route: &Route, method: &Method| {
            let operation = &openapi["paths"][route.path][method.as_str().to_lowercase()];
            assert!(operation.is_object(), "docs/openapi.json has no {method} {}", route.path);
            assert_eq!(operation["requestBody"].is_object(), route.takes_json(), "{method} {}", route.path);
            let (is_open, asks) = (operation["security"] == serde_json::json!([]), &operation["responses"]["401"]);
            assert_eq!((is_open, asks.is_object()), (route.who == Who::Anyone, !is_open), "{method} {}", route.path);
            (route.path.to_owned(), method.as_str().to_lowercase())
        };
        // HEAD is answered as GET, wherever it is.
        let methods = |route: &'static Route| route.methods.iter().filter(|&method| method != Method::HEAD);
        let served: BTreeSet<_> =
            ROUTES.iter().flat_map(|route| methods(route).map(move |method| described(route, method))).collect();
        let paths = openapi["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, item)| names(item).map(move |name| (path.clone(), name.to_owned())));
        assert_eq!(operations.filter(|(_, name)| name != "parameters").collect::<BTreeSet<_>>(), served);
    }

    #[test]
    fn every_status_is_on_the_page() {
        let openapi = document(OPENAPI);
        let operations = openapi["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap());
        let statuses = operations.flat_map(|(_, operation)| names(&operation["responses"]));
        // Of other methods, of sockets above the limit, and of extended CONNECTs.
        let statuses: BTreeSet<_> = statuses.chain(["405", "501", "503"]).map(str::to_owned).collect();
        assert_eq!(listed("| status | when |"), statuses);
    }

    #[test]
    fn every_error_code_is_on_the_page_and_in_asyncapi() {
        let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
        assert_eq!(listed("| code | why |"), codes);
        let described = &document(ASYNCAPI)["components"]["schemas"]["ErrorCode"]["oneOf"];
        let described = described.as_array().unwrap().iter().map(|code| code["const"].as_str().unwrap().to_owned());
        assert_eq!(described.collect::<BTreeSet<_>>(), codes);
    }

    #[test]
    fn every_close_code_is_on_the_page_and_in_asyncapi() {
        let codes: BTreeSet<_> =
            CloseReason::ALL.into_iter().filter_map(|reason| Some(reason.code()?.to_string())).collect();
        assert_eq!(listed("| close | why | come back |"), codes);
        let described = &document(ASYNCAPI)["channels"]["websocket"]["x-close-codes"];
        let described = described.as_array().unwrap().iter().map(|code| code["code"].to_string());
        assert_eq!(described.collect::<BTreeSet<_>>(), codes);
    }

    #[test]
    fn every_member_of_a_product_and_of_a_message_is_on_the_page() {
        let product = &document(OPENAPI)["components"]["schemas"]["Product"];
        let product = names(&product["properties"]).map(str::to_owned).collect();
        assert_eq!(listed("| field | value |"), product);
        let asyncapi = document(ASYNCAPI);
        let schemas = asyncapi["components"]["schemas"].as_object().unwrap().values();
        let forms = schemas.flat_map(|schema| {
            let forms = schema["oneOf"].as_array().into_iter().flatten();
            forms.chain([schema]).filter(|form| form["properties"].is_object())
        });
        for member in forms.flat_map(|form| names(&form["properties"])) {
            assert!(PAGE.contains(&format!("`{member}`")), "docs/protocol.md says nothing of `{member}`");
        }
    }

    #[test]
    fn every_limit_is_on_the_page_with_its_default() {
        let cli = Cli::command();
        let limits = cli.get_arguments().filter(|option| option.get_help_heading() == Some("Limits"));
        let mut missing = BTreeSet::new();
        for option in limits {
            let name = format!("--{}", option.get_long().unwrap());
            let default: u64 = option.get_default_values()[0].to_str().unwrap().parse().unwrap();
            let is_bytes = option.get_value_names().is_some_and(|names| names[0] == "BYTES");
            let default = shown(default, is_bytes);
            let is_listed = |row: &Vec<&str>| row[0].trim_matches('`') == name && row[1] == default;
            if !rows("| limit | default | above it |").iter().any(is_listed) {
                missing.insert(format!("{name} | {default}"));
            }
        }
        assert!(missing.is_empty(), "docs/protocol.md lacks {missing:?}");
    }

    /// Returns a default as the page writes it.
    fn shown(value: u64, is_bytes: bool) -> String {
        match value {
            0 => "none".to_owned(),
            _ if is_bytes && value.is_multiple_of(1024 * 1024) => format!("{} MiB", value / (1024 * 1024)),
            _ if is_bytes && value.is_multiple_of(1024) => format!("{} KiB", value / 1024),
            1000.. => format!("{},{:03}", value / 1000, value % 1000),
            _ => value.to_string(),
        }
    }
}
