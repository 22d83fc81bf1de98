//! Cursors that are ahead of this node: where nodes share an order, a client that comes from another one may have seen what
//! this node has yet to apply. That is no loss, and is waited for.

use std::{future::pending, time::Duration};

use tailwire_model::Cursor;
use tokio::{sync::Notify, time::timeout};

use crate::{order::Order, store::Store};

/// How long a cursor is waited for. A node is rarely behind by more than milliseconds; one that is behind by seconds is
/// better left, by a retry, for another.
const ARRIVAL_WAIT: Duration = Duration::from_secs(2);

/// Wakes those who wait for a commit.
#[derive(Default)]
pub(crate) struct Arrivals(Notify);

impl Arrivals {
    pub(crate) fn notify(&self) {
        self.0.notify_waiters();
    }

    /// Waits for a commit after which something holds.
    async fn wait(&self, holds: impl Fn() -> bool) {
        loop {
            let commit = self.0.notified();
            // A commit from here on is not missed.
            tokio::pin!(commit);
            commit.as_mut().enable();
            if holds() {
                return;
            }
            commit.await;
        }
    }
}

/// Waits until the store has come as far as a cursor, if the order has. Answers false if it takes too long; a cursor beyond
/// what the order has is of no later state, and judged by the rules of gaps.
pub(crate) async fn arrival(
    order: &dyn Order,
    store: &dyn Store,
    arrivals: &Arrivals,
    cursor: Cursor,
) -> bool {
    let is_here = || cursor.position <= store.newest() || cursor.epoch < store.epochs().current().epoch;
    if is_here() {
        return true;
    }
    let arrived = async {
        let has_no_more = async {
            let newest = order.newest().await;
            // Where nobody can be asked, the cursor is not known to be wrong.
            if !newest.is_ok_and(|newest| newest < cursor.position) {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = arrivals.wait(is_here) => {}
            () = has_no_more => {}
        }
    };
    timeout(ARRIVAL_WAIT, arrived).await.is_ok()
}
