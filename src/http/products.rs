//! The REST resource `/products`: the list, and one product.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, LOCATION};

use super::answer::AnswerBody;
use super::budget::Lease;
use super::preconditions;
use super::problem::Problem;
use super::routes::Call;
use super::row::{PIECE_BYTES, Shown, body_of_row, bytes_of};
use super::rows::{Listing, room_for_rows};
use super::{Answer, Services};
use crate::model::product::{Product, ProductBody, ProductId, ProductPatch};
use crate::store::{Precondition, Put, StoreError, Versioned};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// Answers `GET /products`.
pub(super) async fn list(call: Call<'_>) -> Result<Answer, Problem> {
    let (after, limit) = page_of(call.head.uri().query().unwrap_or(""))?;
    let listing = Listing::begin(call.services, call.access, after, limit).await?;
    let body = if listing.is_short() {
        let (whole, lease) = listing.whole().await;
        AnswerBody::whole(whole, lease)
    } else {
        AnswerBody::pieces(listing.pieces())
    };
    Ok(json(StatusCode::OK, body))
}

/// Answers `POST /products`.
pub(super) async fn create(call: Call<'_>) -> Result<Answer, Problem> {
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    let (body, lease): (ProductBody, _) = call.body.json().await?;
    let id = body.product_id.ok_or_else(|| Problem::bad_request("the body has no productId"))?;
    let product = checked(body.into_product(id))?;
    let (store, inserted) = (call.services.store.clone(), product.clone());
    let (version, lease) = to_the_end(async move { store.insert(inserted, condition).await }, lease).await?;
    let mut answer = show(call.services, StatusCode::CREATED, Versioned { product, version }, lease).await;
    let location = HeaderValue::try_from(format!("/products/{id}")).expect("digits and slashes");
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

/// Answers `GET /products/{id}`.
pub(super) async fn read(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_read(id)?;
    let condition = preconditions::read(call.head.headers())?;
    let lease = room_for_rows(call.services).await?;
    let row = call.services.store.get(id).await?;
    show_if(call.services, &condition, row, lease).await
}

/// Answers `PUT /products/{id}`.
pub(super) async fn put(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    let (body, lease): (ProductBody, _) = call.body.json().await?;
    same_id(id, body.product_id)?;
    let product = checked(body.into_product(id))?;
    let (store, written) = (call.services.store.clone(), product.clone());
    let ((put, version), lease) = to_the_end(async move { store.put(written, condition).await }, lease).await?;
    let status = match put {
        Put::Inserted => StatusCode::CREATED,
        Put::Replaced => StatusCode::OK,
    };
    Ok(show(call.services, status, Versioned { product, version }, lease).await)
}

/// Answers `PATCH /products/{id}`.
pub(super) async fn patch(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    let (patch, lease): (ProductPatch, _) = call.body.json().await?;
    same_id(id, patch.product_id)?;
    patch.check().map_err(Problem::bad_request)?;
    let room = room_for_rows(call.services).await?;
    let store = call.services.store.clone();
    let (patched, _) = to_the_end(async move { store.patch(id, patch, condition).await }, lease).await?;
    // The rest of the product is for readers.
    let may_read = call.access.may_read(id);
    Ok(if may_read { show(call.services, StatusCode::OK, patched, room).await } else { done(patched.version) })
}

/// Answers `DELETE /products/{id}`.
pub(super) async fn delete(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    Ok(done(call.services.store.delete(id, condition).await?))
}

/// Carries out a write to its end, whoever leaves meanwhile: its part of the budget is held as long as the store holds
/// the product.
async fn to_the_end<T: Send + 'static>(
    write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    lease: Lease,
) -> Result<(T, Lease), StoreError> {
    let writing = tokio::spawn(async move { write.await.map(|written| (written, lease)) });
    writing.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

/// Reads `after` and `limit` from a query string.
fn page_of(query: &str) -> Result<(Option<ProductId>, usize), Problem> {
    let (mut after, mut limit) = (None, LIMIT_DEFAULT);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" => {
                let id = value.parse().ok().and_then(ProductId::new);
                after = Some(id.ok_or_else(|| {
                    Problem::bad_request(format!("after is a product id, an integer from 0 to {}", ProductId::MAX))
                })?);
            }
            "limit" => {
                let given = value.parse().ok().filter(|given| (1..=LIMIT_MAX).contains(given));
                limit =
                    given.ok_or_else(|| Problem::bad_request(format!("limit is an integer from 1 to {LIMIT_MAX}")))?;
            }
            // `access` has read it, and its holder.
            "token" => {}
            name => {
                return Err(Problem::bad_request(format!("the list knows after and limit, not {name:?}")));
            }
        }
    }
    Ok((after, limit))
}

fn parse_id(text: &str) -> Result<ProductId, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = if digits { text.parse().ok().and_then(ProductId::new) } else { None };
    id.ok_or_else(|| Problem::bad_request(format!("a product id is an integer from 0 to {}", ProductId::MAX)))
}

fn same_id(path: ProductId, body: Option<ProductId>) -> Result<(), Problem> {
    match body {
        Some(body) if body != path => {
            Err(Problem::bad_request(format!("the path names product {path}, the body product {body}")))
        }
        _ => Ok(()),
    }
}

fn checked(product: Product) -> Result<Product, Problem> {
    product.check().map_err(Problem::bad_request)?;
    Ok(product)
}

/// Shows a product with its version, which holds the lease until it is taken.
async fn show(services: &Services, status: StatusCode, row: Versioned, mut lease: Lease) -> Answer {
    let (etag, bytes) = (etag(row.version), bytes_of(&row));
    let body = if bytes <= PIECE_BYTES {
        let whole = serde_json::to_vec(&Shown::from(&row)).expect("answers have string keys");
        lease.shrink_to(whole.capacity());
        AnswerBody::whole(whole, lease)
    } else {
        lease.shrink_to(bytes);
        body_of_row(services, row, lease).await
    };
    let mut answer = json(status, body);
    answer.headers_mut().insert(ETAG, etag);
    answer
}

/// Returns the answer of a read: 304 to a client that has this version already (RFC 9110, §13.2.2).
async fn show_if(
    services: &Services,
    condition: &Precondition,
    found: Versioned,
    lease: Lease,
) -> Result<Answer, Problem> {
    let version = Some(found.version);
    if (Precondition { unwanted: None, ..condition.clone() }).holds(version) {
        let is_new = condition.holds(version);
        return Ok(if is_new {
            show(services, StatusCode::OK, found, lease).await
        } else {
            not_modified(found.version)
        });
    }
    Err(StoreError::PreconditionFailed(found.product.product_id).into())
}

fn not_modified(version: u64) -> Answer {
    let mut answer = done(version);
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer
}

/// Returns the answer of a write that shows nothing but its version.
fn done(version: u64) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(ETAG, etag(version));
    answer
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits between quotes")
}

fn json(status: StatusCode, body: AnswerBody) -> Answer {
    let mut answer = Answer::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_chosen_by_after_and_limit() {
        assert_eq!(page_of("").unwrap(), (None, 100));
        assert_eq!(page_of("limit=5&after=7").unwrap(), (ProductId::new(7), 5));
        for bad in ["limit=0", "limit=1001", "limit=x", "after=-1", "after=", "offset=3", "limit"] {
            assert!(page_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_in_a_path_is_digits_in_range() {
        assert_eq!(parse_id("9007199254740991").unwrap(), ProductId::MAX);
        for bad in ["", "-1", "+1", "1.0", "9007199254740992", "99999999999999999999", "a"] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
    }
}
