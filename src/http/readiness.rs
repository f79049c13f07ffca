//! The store's readiness: asked for at most once a second, for all who ask.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::Store;

/// The time for which an answer of the store counts.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// The last question to the store and its answer. All clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Readiness(Arc<Mutex<Option<Question>>>);

#[derive(Clone, Debug)]
struct Question {
    asked: Instant,
    /// `None` until the store has answered.
    answer: watch::Receiver<Option<bool>>,
}

impl Readiness {
    /// Returns true if the store can be used, as it said within the last second or says to a question that is under
    /// way.
    pub(super) async fn of(&self, store: &Store) -> bool {
        self.ask(|| {
            let store = store.clone();
            async move { store.check().await.is_ok() }
        })
        .await
    }

    async fn ask<F>(&self, check: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let mut answer = self.question(check).answer;
        let answered = answer.wait_for(Option::is_some).await;
        // Nobody answers where the check was ended with its thread.
        answered.is_ok_and(|answer| *answer == Some(true))
    }

    /// Returns the question that counts, which is begun where there is none. A task of its own asks it, so that it is
    /// answered even if whoever began it leaves.
    fn question<F>(&self, check: impl FnOnce() -> F) -> Question
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = last.as_ref().filter(|question| question.counts()) {
            return question.clone();
        }
        let (tell, answer) = watch::channel(None);
        let check = check();
        tokio::spawn(async move { tell.send(Some(check.await)) });
        last.insert(Question { asked: Instant::now(), answer }).clone()
    }
}

impl Question {
    /// Returns true if its answer is new enough or still to come.
    fn counts(&self) -> bool {
        let is_under_way = self.answer.borrow().is_none() && self.answer.has_changed().is_ok();
        is_under_way || self.asked.elapsed() < ANSWER_TIME
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_once_a_second_for_all() {
        let (readiness, asked) = (Readiness::default(), Cell::new(0));
        let ask = |answer| readiness.ask(move || std::future::ready(answer));
        let counted = |answer| {
            let asked = &asked;
            readiness.ask(move || {
                asked.set(asked.get() + 1);
                std::future::ready(answer)
            })
        };
        assert!(counted(true).await);
        for _ in 0..100 {
            assert!(counted(false).await, "the answer of this second");
        }
        assert_eq!(asked.get(), 1);
        tokio::time::advance(ANSWER_TIME).await;
        assert!(!counted(false).await);
        assert!(!ask(true).await, "a no counts as long as a yes");
        assert_eq!(asked.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_under_way_is_everybodys_whoever_began_it_and_however_long_it_takes() {
        let readiness = Readiness::default();
        let (answer, coming) = oneshot::channel::<bool>();
        let (asked, was_asked) = oneshot::channel();
        let mut begun = Box::pin(readiness.ask(|| async move {
            asked.send(()).unwrap();
            coming.await.unwrap()
        }));
        tokio::select! {
            biased;
            _ = &mut begun => panic!("there is no answer yet"),
            asked = was_asked => asked.unwrap(),
        }
        drop(begun);
        tokio::time::advance(5 * ANSWER_TIME).await;
        let others: Vec<_> = (0..10)
            .map(|_| {
                let readiness = readiness.clone();
                tokio::spawn(async move { readiness.ask(|| std::future::ready(false)).await })
            })
            .collect();
        yield_now().await;
        answer.send(true).unwrap();
        for other in others {
            assert!(other.await.unwrap());
        }
    }
}
