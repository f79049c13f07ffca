//! Where products are read and written: [`Store`], embedded or Postgres.
//!
//! A store acknowledges a write after it is durable, with the version that the change got. The change itself reaches
//! subscribers through the store's [`Source`](crate::source::Source), never from here.

pub mod migrate;
pub mod postgres;
pub mod postgres_config;
pub(crate) mod postgres_tls;
mod postgres_url;

use crate::product::{Product, ProductId, ProductPatch};

/// A product with the version of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The row.
    pub product: Product,
    /// The version that its last change got.
    pub version: u64,
}

/// What [`Store::put`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was no such product; there is now.
    Inserted,
    /// The product was replaced whole.
    Replaced,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An insert of an id that is taken.
    #[error("product {0} exists")]
    Exists(ProductId),
    /// No product has this id.
    #[error("product {0} does not exist")]
    NotFound(ProductId),
    /// The store itself is not there now (the database is down, the disk is full, all connections are taken).
    /// The text is for the log; it may name hosts.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}
