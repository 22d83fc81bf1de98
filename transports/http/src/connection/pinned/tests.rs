#![allow(clippy::unwrap_used)]

use std::pin::Pin;

use futures_util::FutureExt;
use tailwire_model::limits::{
    PINNED_ADDRESS_BYTES_MAX, PINNED_ADDRESS_WAITING_MAX, PINNED_CONNECTION_BYTES_MAX, PINNED_WAITING_MAX,
};

use super::*;

type Admitting<'a> = Pin<Box<dyn Future<Output = Result<Pinned, NoPinnedRoom>> + 'a>>;

fn account(last: u8) -> Account {
    Account::new(Ipv4Addr::new(192, 0, 2, last).into())
}

/// A request that has to wait.
fn waiting(account: &Account, bytes: usize) -> Admitting<'_> {
    let mut admitting: Admitting<'_> = Box::pin(account.admit(bytes));
    assert!(admitting.as_mut().now_or_never().is_none());
    admitting
}

fn admitted(admitting: Admitting<'_>) -> Pinned {
    admitting.now_or_never().unwrap().unwrap()
}

fn is_refused(account: &Account) -> bool {
    account.admit(1).now_or_never().is_some_and(|answer| answer.is_err())
}

async fn many(count: usize, bytes: usize, address: impl Fn(usize) -> u8) -> Vec<(Account, Pinned)> {
    let mut all = Vec::new();
    for n in 0..count {
        let own = account(address(n));
        let pinned = own.admit(bytes).await.unwrap();
        all.push((own, pinned));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn room_is_waited_for_no_longer_than_that() {
    let _alone = ALONE.lock().await;
    let full = Pinned::of(PINNED_BYTES_MAX);
    let (own, began) = (account(1), tokio::time::Instant::now());
    assert_eq!(own.admit(1).await.unwrap_err(), NoPinnedRoom);
    assert_eq!(began.elapsed(), Duration::from_millis(PINNED_WAIT_MS_MAX));
    assert!(!own.is_contended(), "a request that was given up is not waited for");
    drop(full);
    assert_eq!(Pinned::all(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_connection_leaves_room_to_others() {
    let _alone = ALONE.lock().await;
    let (greedy, other) = (account(1), account(1));
    let share = greedy.admit(PINNED_CONNECTION_BYTES_MAX).await.unwrap();
    let more = waiting(&greedy, 1);
    // That is its own matter: nobody is closed for it, and everybody else is admitted.
    assert!(!greedy.is_contended() && !share.is_contended());
    let large = other.admit(1 << 20).await.unwrap();
    drop(share);
    drop((admitted(more), large));
    assert_eq!(Pinned::all(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_connections_of_one_address_leave_room_to_other_addresses() {
    let _alone = ALONE.lock().await;
    let each = 1 << 20;
    let mut held = many(PINNED_ADDRESS_BYTES_MAX / each, each, |_| 1).await;
    let late = account(1);
    let more = waiting(&late, each);
    let (healthy, pinned) = many(1, 4 * each, |_| 2).await.remove(0);
    // Those of the address stand in each other's way, and in nobody else's.
    assert!(late.is_contended() && held[0].1.is_contended());
    assert!(!healthy.is_contended() && !pinned.is_contended());
    held.pop();
    drop(admitted(more));
    drop((held, pinned, late, healthy));
    assert_eq!(Pinned::all(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_holder_of_least_is_served_first() {
    let _alone = ALONE.lock().await;
    let each = 8 << 20;
    let mut held = many(PINNED_BYTES_MAX / each, each, |n| n as u8).await;
    let (rich, poor, newer) = (held[0].0.clone(), account(200), account(201));
    let more = waiting(&rich, each);
    let first = waiting(&poor, each);
    let second = waiting(&newer, each);
    assert!(held[1].1.is_contended());
    held.pop();
    let first = admitted(first);
    held.pop();
    let second = admitted(second);
    held.pop();
    let more = admitted(more);
    assert!(!rich.is_contended());
    drop((held, first, second, more));
    drop((rich, poor, newer));
    assert_eq!(Pinned::all(), 0);
    assert!(ROOM.lock().is_empty(), "nothing is remembered of connections that have gone");
}

#[tokio::test]
async fn a_wait_that_was_given_up_stands_in_nobodys_way() {
    let _alone = ALONE.lock().await;
    let (impatient, patient) = (account(1), account(2));
    let large = Pinned::of(PINNED_BYTES_MAX + 1);
    assert!(large.is_contended(), "more is used than may be");
    let given_up = waiting(&impatient, PINNED_BYTES_MAX);
    let waits = waiting(&patient, 7);
    drop(given_up);
    drop(large);
    let pinned = admitted(waits);
    assert_eq!(Pinned::all(), 7);
    assert!(!pinned.is_contended());
    drop((pinned, impatient, patient));
    assert!(ROOM.lock().is_empty());
}

#[tokio::test]
async fn only_so_many_requests_wait_of_one_address_and_of_all() {
    let _alone = ALONE.lock().await;
    let full = Pinned::of(PINNED_BYTES_MAX);
    let accounts: Vec<_> =
        (0..PINNED_WAITING_MAX).map(|n| account((n / PINNED_ADDRESS_WAITING_MAX) as u8)).collect();
    let mut waits: Vec<_> = accounts.iter().map(|own| waiting(own, 1)).collect();
    let (known, other) = (account(0), account(200));
    assert!(is_refused(&known));
    assert!(is_refused(&other), "there is no place for another address, either");
    // One that gives up leaves its place, though nobody has come upon it yet.
    drop(waits.pop());
    assert!(is_refused(&known), "its address has as many as it may");
    let late = waiting(&other, 1);
    drop(full);
    for waits in waits.into_iter().chain([late]) {
        drop(waits.await.unwrap());
    }
    drop((accounts, known, other));
    assert!(ROOM.lock().is_empty());
}

#[test]
fn a_network_of_ipv6_is_one_address() {
    let of = |text: &str| Account::new(text.parse().unwrap()).0.address;
    assert_eq!(of("2001:db8:1:2:3::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
}
