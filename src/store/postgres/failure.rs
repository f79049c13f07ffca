//! The reasons for which a statement had no result, and the part of each that is told, and to whom: [`Failure`].

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{WasNull, WrongType};

use super::ANSWER_TIMEOUT;
use super::sqlstate::Kind;
use crate::store::{Refusal, StoreError};

/// The most characters of the database's message that are told; a trigger may raise any.
const MESSAGE_TOLD_MAX: usize = 500;
/// The table was changed while a statement waited (`migrations/0010_changed_tables.sql`).
const CHANGED_MEANWHILE: &str = "RC001";
/// The constraint that a taken product id violates, as `migrations/0001_products.sql` has Postgres call it.
const KEY_CONSTRAINT: &str = "products_pkey";
/// The functions of Postgres that report what no code of their own tells, whatever the language of its messages is: a plan
/// whose table was changed ("cached plan must not change result type"), and a write that a rule replaces with another.
const PLAN_REVALIDATED: &str = "RevalidateCachedQuery";
const QUERY_REWRITTEN: &str = "RewriteQuery";
/// The reason that is told of such a write: the database's own would be of a clause that nobody who asked has written.
const REPLACED: &str = "a rule of the table (CREATE RULE … DO INSTEAD) puts something else in the place of this write";

/// The reason for which a statement had no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection was free, or none could be made.
    #[error("no connection")]
    Pool(#[from] PoolError),
    /// The database's answer, the loss of the connection, or an answer that cannot be read.
    #[error("a statement failed")]
    Database(#[from] Error),
    /// No answer at all.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silence,
    /// A write that a trigger of somebody else left out.
    #[error("a trigger left the write out")]
    LeftOut,
    /// A row whose key no product may have.
    #[error("{0} is no product id")]
    Key(u64),
}

impl Failure {
    /// Returns true if a product's key was taken.
    pub(super) fn is_taken_key(&self) -> bool {
        let error = self.database().filter(|error| *error.code() == SqlState::UNIQUE_VIOLATION);
        error.is_some_and(|error| error.constraint() == Some(KEY_CONSTRAINT))
    }

    /// Returns true if a key was taken, or another value that is to be there once.
    pub(super) fn is_taken(&self) -> bool {
        self.database().is_some_and(|error| *error.code() == SqlState::UNIQUE_VIOLATION)
    }

    /// Returns true if the same statement may well succeed when tried at once: the database rolled it back only because
    /// of what others did at that moment
    /// (<https://www.postgresql.org/docs/15/mvcc-serialization-failure-handling.html>), or it was prepared, or began,
    /// before the tables were changed.
    pub(super) fn may_pass(&self) -> bool {
        let for_another = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        let is_for_another =
            |error: &DbError| for_another.contains(error.code()) || error.code().code() == CHANGED_MEANWHILE;
        self.database().is_some_and(is_for_another) || self.is_stale_statement()
    }

    /// Returns true if the connection's prepared statement cannot be used any more: its table was changed ("cached plan
    /// must not change result type"), or somebody deallocated it.
    pub(super) fn is_stale_statement(&self) -> bool {
        self.is_unsupported(PLAN_REVALIDATED)
            || self.database().is_some_and(|error| *error.code() == SqlState::INVALID_SQL_STATEMENT_NAME)
    }

    /// Returns true if this function of Postgres has found that it cannot be done.
    fn is_unsupported(&self, reporter: &str) -> bool {
        let error = self.database().filter(|error| *error.code() == SqlState::FEATURE_NOT_SUPPORTED);
        error.is_some_and(|error| error.routine() == Some(reporter))
    }

    /// Returns true if the data of a row is the reason: it has no form in UTF-8, is damaged (`XX001`), or is refused, as by
    /// the function of a cast to json. `migrations/0017_true_readers.sql` has the same classes.
    pub(super) fn is_of_data(&self) -> bool {
        let code = self.database().map(|error| error.code().code());
        let is_refused = |code| matches!(Kind::of(code), Kind::Refused(refusal) if refusal != Refusal::Denied);
        code.is_some_and(|code| is_refused(code) || code == SqlState::DATA_CORRUPTED.code())
    }

    /// Returns the store's error. A connection that cannot be had is an outage, whatever the reason.
    pub(super) fn into_store_error(self, database: &str) -> StoreError {
        if self.is_unsupported(QUERY_REWRITTEN) {
            return StoreError::Refused { refusal: Refusal::Invalid, reason: REPLACED.to_owned() };
        }
        let kind = match &self {
            Self::Pool(_) | Self::Silence => Kind::Unavailable,
            Self::LeftOut => Kind::Refused(Refusal::Invalid),
            Self::Key(_) => Kind::Fault,
            Self::Database(error) => match error.as_db_error() {
                Some(error) => Kind::of(error.code().code()),
                None if is_unreadable(error) => Kind::Fault,
                None => Kind::Unavailable,
            },
        };
        let for_log = || format!("{database}: {}", chain(&self));
        match kind {
            Kind::Refused(refusal) => {
                let reason = self.database().map_or_else(|| self.to_string(), told);
                tracing::debug!(reason = for_log(), "the database refused a statement");
                StoreError::Refused { refusal, reason }
            }
            Kind::Unavailable => StoreError::Unavailable(for_log()),
            Kind::Changed => StoreError::Changed(for_log()),
            Kind::Fault => StoreError::Fault(for_log()),
        }
    }

    /// Returns the database's own words.
    fn database(&self) -> Option<&DbError> {
        match self {
            Self::Database(error) => error.as_db_error(),
            _ => None,
        }
    }
}

/// Returns true if a value is of another type than this server knows the column by.
fn is_unreadable(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<WrongType>() || source.is::<WasNull>())
}

/// Returns the part that a writer may know: the message, and the names of the constraint and the column. Not the
/// detail, which quotes other rows, and not the context, which quotes statements.
fn told(error: &DbError) -> String {
    let mut told: String = error.message().chars().take(MESSAGE_TOLD_MAX).collect();
    for (kind, name) in [("constraint", error.constraint()), ("column", error.column())] {
        if let Some(name) = name.filter(|name| !told.contains(&format!("\"{name}\""))) {
            told.extend([" (", kind, " \"", name, "\")"]);
        }
    }
    told
}

/// Returns the error and its causes, in one line. tokio-postgres names the database's own words only as a cause.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
