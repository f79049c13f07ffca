//! Errors as `application/problem+json` (RFC 9457).

use bytes::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::store::{Refusal, StoreError};

/// Seconds after which a client may repeat a request that a store could not do.
const RETRY_AFTER_SECONDS: u16 = 2;
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The reason for which a request was not done, told to whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// Makes a problem with this status; `detail` names the remedy.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// Adds one header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Makes a 400.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Makes a 404 for a table that is not there.
    #[must_use]
    pub fn unknown_table(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("unknown table {name:?}; GET /tables lists those that there are"))
    }

    /// Makes a 405, with the methods that the path allows.
    #[must_use]
    pub fn method_not_allowed(allowed: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path allows {allowed}"))
            .with_header(ALLOW, HeaderValue::try_from(allowed).expect("methods are text"))
    }

    /// Makes a 503, to be tried again soon.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::unavailable_for(RETRY_AFTER_SECONDS.into(), detail)
    }

    /// Makes a 503, to be tried again after so many seconds.
    #[must_use]
    pub fn unavailable_for(seconds: u64, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_header(RETRY_AFTER, seconds.into())
    }

    /// Returns the bytes of an HTTP/1.1 response that is sent without having read a request, and ends the connection.
    #[must_use]
    pub fn into_last_response(self) -> Vec<u8> {
        let body = self.body();
        let mut response = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        let ends = [(CONNECTION, HeaderValue::from_static("close")), (CONTENT_LENGTH, body.len().into())];
        for (name, value) in self.headers.into_iter().chain([(CONTENT_TYPE, PROBLEM_JSON)]).chain(ends) {
            response.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        response.extend_from_slice(b"\r\n");
        response.extend_from_slice(body.as_bytes());
        response
    }

    fn body(&self) -> String {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        body.to_string()
    }
}

impl<B: From<Bytes>> From<Problem> for Response<B> {
    fn from(problem: Problem) -> Self {
        let mut answer = Self::new(Bytes::from(problem.body()).into());
        *answer.status_mut() = problem.status;
        answer.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        answer.headers_mut().extend(problem.headers);
        answer
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists(id) => {
                let put = id.product().map_or_else(|| "PUT".to_owned(), |product| format!("PUT /products/{product}"));
                Self::new(StatusCode::CONFLICT, format!("{id} exists; {put} replaces it, PATCH changes a part of it"))
            }
            StoreError::NotFound(id) => Self::new(StatusCode::NOT_FOUND, format!("there is no {id}")),
            StoreError::PreconditionFailed(id) => {
                let detail = format!("{id} is not as If-Match or If-None-Match demands; read it again");
                Self::new(StatusCode::PRECONDITION_FAILED, detail)
            }
            StoreError::NoTable(name) => Self::unknown_table(&name),
            StoreError::BadTableName(name) => Self::bad_request(format!(
                "no table can be named {name:?}: a name is a letter or _, and at most 62 letters, digits, _ and . after it"
            )),
            StoreError::TooManyTables(max) => {
                let detail = format!("there are as many tables as may be made, {max}; --max-tables sets how many");
                Self::new(StatusCode::CONFLICT, detail)
            }
            StoreError::TooLong(max) => {
                let detail = format!("with this patch the row would have more than {max} bytes, which is the most");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            StoreError::Refused { refusal, reason } => {
                let status = match refusal {
                    Refusal::Conflict => StatusCode::CONFLICT,
                    Refusal::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                    Refusal::Unrepresentable => StatusCode::BAD_REQUEST,
                    Refusal::Denied => StatusCode::FORBIDDEN,
                };
                Self::new(status, format!("the database refuses it: {reason}"))
            }
            StoreError::Changed(why) => {
                tracing::warn!(why, "a table is not live");
                Self::unavailable(
                    "the table was changed, and is not live yet; try again soon. If it stays so, /readyz says why",
                )
            }
            StoreError::Fault(why) => {
                tracing::error!(why, "the store is not as expected");
                let detail = "the database is not as this server expects it; the server's log says what is wrong";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
            StoreError::Unavailable(why) => {
                tracing::warn!(why, "the store did not answer");
                Self::unavailable("the database does not answer now; try again soon")
            }
        }
    }
}
