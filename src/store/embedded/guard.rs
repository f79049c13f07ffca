//! Panics of redb, which may be its response to data that was damaged behind its back, become errors: [`guarded`].

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// True while a panic of this thread is caught and told by who asked for the work.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Does the work, and answers a panic in it as [`redb::Error::Corrupted`]. Nothing is printed of it.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    keep_guarded_panics_quiet();
    let outer = IS_GUARDED.replace(true);
    // redb stays usable: a transaction that a panic ends is given up, and the file repaired when it is opened next.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    outcome.unwrap_or_else(|panic| Err(redb::Error::Corrupted(message(&*panic))))
}

fn keep_guarded_panics_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                before(panic);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a check of the data failed").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message_also_inside_other_work() {
        let outcome = guarded(|| {
            let inner = guarded(|| -> Result<(), _> { panic!("page {} is damaged", 7) }).unwrap_err();
            assert!(inner.to_string().contains("page 7 is damaged"), "{inner}");
            let plain = guarded(|| -> Result<(), _> { panic!("plain") }).unwrap_err();
            assert!(plain.to_string().contains("plain"), "{plain}");
            Ok(1)
        });
        assert_eq!(outcome.unwrap(), 1);
    }
}
