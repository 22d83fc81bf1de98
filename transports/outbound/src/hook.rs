//! The decision hook: asks an application what a principal may, and remembers what it said for as long as it holds. The same
//! question is asked once at a time, however many requests wait for its answer.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tailwire_access::{Hook, HookAnswer, HookQuestion};
use tailwire_model::{
    Timestamp,
    limits::{
        HOOK_ANSWER_BYTES_MAX, HOOK_ANSWERS_BYTES_MAX, HOOK_ANSWERS_MAX, HOOK_ASKS_MAX, HOOK_ASKS_WAITING_MAX,
    },
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{agent, signature};

/// What an answer takes beside its grants, roughly.
const ENTRY_BYTES: usize = 256;

/// Asks one application.
#[derive(Clone)]
pub struct HookClient(Arc<HookState>);

struct HookState {
    hook: Hook,
    key: Option<hmac::Key>,
    agent: ureq::Agent,
    answers: Mutex<RememberedAnswers>,
    /// Questions that may be asked at a time.
    room: Semaphore,
    now: fn() -> Timestamp,
}

type QuestionDigest = [u8; 32];
type AwaitedAnswer = Shared<BoxFuture<'static, Result<HookHolding, HookError>>>;

/// In two generations: the older is dropped as a whole when the younger is full.
#[derive(Default)]
struct RememberedAnswers {
    young: HashMap<QuestionDigest, HookHolding>,
    young_bytes: usize,
    old: HashMap<QuestionDigest, HookHolding>,
    asking: HashMap<QuestionDigest, AwaitedAnswer>,
}

/// An answer, and until when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookHolding {
    /// What the application grants.
    pub answer: Arc<HookAnswer>,
    /// The end of that.
    pub until: Timestamp,
}

/// There is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The application did not answer, or not in time.
    #[error("the application can't be asked: {0}")]
    Unreachable(String),
    /// What it said is no answer.
    #[error("the application's answer is none: {0}")]
    Unreadable(String),
    /// More is asked at a time than it is asked.
    #[error("too much is asked at a time")]
    Busy,
}

impl HookClient {
    /// For a configured hook.
    pub fn new(hook: &Hook, now: fn() -> Timestamp) -> Self {
        let key = hook.secret.as_deref().map(signature::key);
        let agent = agent(Duration::from_millis(hook.timeout_ms));
        let (answers, room) = (Mutex::default(), Semaphore::new(HOOK_ASKS_MAX));
        Self(Arc::new(HookState { hook: hook.clone(), key, agent, answers, room, now }))
    }

    /// An answer that is remembered.
    pub fn remembered(&self, question: &HookQuestion) -> Option<HookHolding> {
        self.0.get(&mut self.0.answers.lock(), &question.digest())
    }

    /// The answer to a question; without one, what the hook says for that case.
    ///
    /// # Errors
    /// [`HookError`], where nothing is to hold without an answer.
    pub async fn ask(&self, question: &HookQuestion) -> Result<HookHolding, HookError> {
        let (own, digest) = (&self.0, question.digest());
        let asked = {
            let mut answers = own.answers.lock();
            if let Some(holding) = own.get(&mut answers, &digest) {
                return Ok(holding);
            }
            let is_asked = answers.asking.contains_key(&digest);
            if !is_asked && answers.asking.len() >= HOOK_ASKS_WAITING_MAX {
                drop(answers);
                return own.without(question, HookError::Busy);
            }
            let begin = || own.clone().begin(digest, question.clone());
            answers.asking.entry(digest).or_insert_with(begin).clone()
        };
        asked.await.or_else(|error| own.without(question, error))
    }
}

impl HookState {
    /// Asks, in a task of its own: the request that asked first may be gone before there is an answer.
    fn begin(self: Arc<Self>, digest: QuestionDigest, question: HookQuestion) -> AwaitedAnswer {
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let asked = self.clone().ask(question).await;
            if let Err(error) = &asked {
                tracing::warn!(%error, ms = began.elapsed().as_millis() as u64, "a decision could not be had");
            }
            let mut answers = self.answers.lock();
            answers.asking.remove(&digest);
            if let Ok(holding) = &asked {
                answers.put(digest, holding.clone());
            }
            asked
        });
        let ended =
            task.map(|ended| ended.unwrap_or_else(|error| Err(HookError::Unreachable(error.to_string()))));
        ended.boxed().shared()
    }

    async fn ask(self: Arc<Self>, question: HookQuestion) -> Result<HookHolding, HookError> {
        let patience = Duration::from_millis(self.hook.timeout_ms);
        let room = tokio::time::timeout(patience, self.room.acquire()).await;
        let Ok(Ok(_room)) = room else { return Err(HookError::Busy) };
        let own = self.clone();
        let posted = tokio::task::spawn_blocking(move || own.post(&question)).await;
        let answer = posted.unwrap_or_else(|error| Err(HookError::Unreachable(error.to_string())))?;
        Ok(HookHolding { answer: Arc::new(answer), until: self.end() })
    }

    fn post(&self, question: &HookQuestion) -> Result<HookAnswer, HookError> {
        let unreachable = |error: ureq::Error| HookError::Unreachable(error.to_string());
        let mut request = self.agent.post(&*self.hook.url).content_type("application/json");
        if let Some(key) = &self.key {
            let (id, at_s) = (Uuid::new_v4().to_string(), (self.now)().0 / 1000);
            let signature = signature::sign(key, &id, at_s, question.body());
            request = request.header("webhook-id", id).header("webhook-timestamp", at_s.to_string());
            request = request.header("webhook-signature", signature);
        }
        let mut response = request.send(question.body()).map_err(unreachable)?;
        match response.status().as_u16() {
            200 => {}
            // "No", as applications say it.
            204 | 401 | 403 => return Ok(HookAnswer::default()),
            other => return Err(HookError::Unreadable(format!("its status is {other}"))),
        }
        let body = response.body_mut().with_config().limit(HOOK_ANSWER_BYTES_MAX as u64);
        let body = body.read_to_vec().map_err(unreachable)?;
        HookAnswer::parse(&body).map_err(|error| HookError::Unreadable(error.to_string()))
    }

    /// What holds where there is no answer.
    fn without(&self, question: &HookQuestion, error: HookError) -> Result<HookHolding, HookError> {
        let fallback = self.hook.without_answer(question).ok_or(error)?;
        Ok(HookHolding { answer: Arc::new(fallback), until: self.end() })
    }

    fn get(&self, answers: &mut RememberedAnswers, digest: &QuestionDigest) -> Option<HookHolding> {
        answers.get(digest, (self.now)(), self.hook.max_age_ms)
    }

    /// When an answer of now holds no more.
    fn end(&self) -> Timestamp {
        Timestamp((self.now)().0.saturating_add(self.hook.max_age_ms))
    }
}

impl RememberedAnswers {
    fn get(&mut self, digest: &QuestionDigest, now: Timestamp, max_age_ms: u64) -> Option<HookHolding> {
        let found = match self.young.get(digest) {
            Some(found) => found.clone(),
            None => {
                let found = self.old.remove(digest)?;
                self.put(*digest, found.clone());
                found
            }
        };
        // One that would hold for longer than any does was given before the clock was set back.
        let left_ms = found.until.0.saturating_sub(now.0);
        (1..=max_age_ms).contains(&left_ms).then_some(found)
    }

    fn put(&mut self, digest: QuestionDigest, holding: HookHolding) {
        let bytes = ENTRY_BYTES + holding.answer.grants.cost();
        if self.young.len() >= HOOK_ANSWERS_MAX / 2 || self.young_bytes + bytes > HOOK_ANSWERS_BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(digest, holding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_time_whatever_the_clock_does() {
        let (mut answers, digest) = (RememberedAnswers::default(), [7; 32]);
        let until = Timestamp(1_000_060);
        answers.put(digest, HookHolding { answer: Arc::default(), until });
        let mut holds = |now: u64| answers.get(&digest, Timestamp(now), 60).is_some();
        assert!(holds(1_000_000) && holds(1_000_059));
        assert!(!holds(1_000_060) && !holds(2_000_000));
        assert!(!holds(999_999) && !holds(0), "the clock was set back");
    }

    #[test]
    fn the_older_half_goes_and_one_that_is_asked_for_stays() {
        let mut answers = RememberedAnswers::default();
        let digest = |n: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            digest
        };
        let until = Timestamp(60);
        for n in 0..3 * HOOK_ANSWERS_MAX {
            answers.put(digest(n), HookHolding { answer: Arc::default(), until });
            assert!(answers.get(&digest(0), Timestamp(1), 60).is_some(), "{n}");
            assert!(answers.young.len() + answers.old.len() <= HOOK_ANSWERS_MAX);
        }
        assert!(answers.get(&digest(1), Timestamp(1), 60).is_none());
    }
}
