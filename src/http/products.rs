//! The REST resource `/products`: the list, and one product.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, LOCATION};
use serde::Serialize;

use super::access::Access;
use super::preconditions;
use super::problem::Problem;
use super::routes::Call;
use super::{Answer, Services};
use crate::model::product::{Product, ProductBody, ProductId, ProductPatch};
use crate::store::{Precondition, Put, StoreError, Versioned};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// How often the store is asked for one page of a list.
const LIST_LOOKUPS_MAX: usize = 100;

/// A product as it is answered: its fields, then its version.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    product: &'a Product,
    version: u64,
}

impl<'a> From<&'a Versioned> for Shown<'a> {
    fn from(versioned: &'a Versioned) -> Self {
        Self { product: &versioned.product, version: versioned.version }
    }
}

/// A page of the list. `next` is the `after` of the page that follows, or null.
#[derive(Serialize)]
struct Page<'a> {
    products: Vec<Shown<'a>>,
    next: Option<ProductId>,
}

/// `GET /products`.
pub(super) async fn list(call: Call<'_>) -> Result<Answer, Problem> {
    let (after, limit) = page_of(call.head.uri().query().unwrap_or(""))?;
    let (products, next) = readable_page(call.services, &call.access, after, limit).await?;
    let page = Page { products: products.iter().map(Shown::from).collect(), next };
    Ok(json(StatusCode::OK, &page))
}

/// `POST /products`.
pub(super) async fn create(call: Call<'_>) -> Result<Answer, Problem> {
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    let body: ProductBody = call.body.json().await?;
    let id = body.product_id.ok_or_else(|| Problem::bad_request("the body has no productId"))?;
    let product = checked(body.into_product(id))?;
    let version = call.services.store.insert(product.clone(), condition).await?;
    let mut answer = show(StatusCode::CREATED, &Versioned { product, version });
    let location = HeaderValue::try_from(format!("/products/{id}")).expect("digits and slashes");
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

/// `GET /products/{id}`.
pub(super) async fn read(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_read(id)?;
    let condition = preconditions::read(call.head.headers())?;
    show_if(&condition, &call.services.store.get(id).await?)
}

/// `PUT /products/{id}`.
pub(super) async fn put(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    let body: ProductBody = call.body.json().await?;
    same_id(id, body.product_id)?;
    let product = checked(body.into_product(id))?;
    let (put, version) = call.services.store.put(product.clone(), condition).await?;
    let status = match put {
        Put::Inserted => StatusCode::CREATED,
        Put::Replaced => StatusCode::OK,
    };
    Ok(show(status, &Versioned { product, version }))
}

/// `PATCH /products/{id}`.
pub(super) async fn patch(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    let patch: ProductPatch = call.body.json().await?;
    same_id(id, patch.product_id)?;
    patch.check().map_err(Problem::bad_request)?;
    let patched = call.services.store.patch(id, patch, condition).await?;
    // The rest of the product is for readers.
    Ok(if call.access.may_read(id) { show(StatusCode::OK, &patched) } else { done(patched.version) })
}

/// `DELETE /products/{id}`.
pub(super) async fn delete(call: Call<'_>) -> Result<Answer, Problem> {
    let id = parse_id(call.segment)?;
    call.access.require_write()?;
    let condition = preconditions::read(call.head.headers())?;
    Ok(done(call.services.store.delete(id, condition).await?))
}

/// The products after `after` that may be read, and where the next page begins if one follows. A page has fewer than
/// `limit` products also where those that may be read lie too far apart.
async fn readable_page(
    services: &Services,
    access: &Access,
    after: Option<ProductId>,
    limit: usize,
) -> Result<(Vec<Versioned>, Option<ProductId>), Problem> {
    let mut products = Vec::new();
    let mut after = after;
    for _ in 0..LIST_LOOKUPS_MAX {
        let Some((first, last)) = next(after).and_then(|id| access.next_readable(id)) else {
            return Ok((products, None));
        };
        // One more than is shown tells whether another page follows.
        let wanted = (limit + 1 - products.len()).min(width(first, last));
        let found = services.store.list(previous(first), wanted).await?;
        let is_end = found.len() < wanted;
        // Ranges without products are passed over.
        let passed = found.last().and_then(|found| previous(found.product.product_id));
        products.extend(found.into_iter().take_while(|found| found.product.product_id <= last));
        if products.len() > limit {
            products.truncate(limit);
            let next = products.last().map(|last| last.product.product_id);
            return Ok((products, next));
        }
        if is_end {
            return Ok((products, None));
        }
        after = passed.max(Some(last));
    }
    Ok((products, after))
}

fn next(id: Option<ProductId>) -> Option<ProductId> {
    id.map_or_else(|| ProductId::new(0), |id| ProductId::new(id.get() + 1))
}

fn width(first: ProductId, last: ProductId) -> usize {
    usize::try_from(last.get() - first.get() + 1).unwrap_or(usize::MAX)
}

fn previous(id: ProductId) -> Option<ProductId> {
    id.get().checked_sub(1).and_then(ProductId::new)
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
            // Whose it is, `access` has read.
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

fn show(status: StatusCode, versioned: &Versioned) -> Answer {
    let mut answer = json(status, &Shown::from(versioned));
    answer.headers_mut().insert(ETAG, etag(versioned.version));
    answer
}

/// The answer of a read: 304 to a client that has this version already (RFC 9110, §13.2.2).
fn show_if(condition: &Precondition, found: &Versioned) -> Result<Answer, Problem> {
    let version = Some(found.version);
    if (Precondition { unwanted: None, ..condition.clone() }).holds(version) {
        return Ok(if condition.holds(version) { show(StatusCode::OK, found) } else { not_modified(found.version) });
    }
    Err(StoreError::PreconditionFailed(found.product.product_id).into())
}

fn not_modified(version: u64) -> Answer {
    let mut answer = done(version);
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer
}

/// The answer of a write that shows nothing but its version.
fn done(version: u64) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(ETAG, etag(version));
    answer
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits between quotes")
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("answers have string keys");
    let mut answer = Answer::new(body.into());
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
