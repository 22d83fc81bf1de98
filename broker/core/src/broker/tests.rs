use tailwire_model::Timestamp;

use super::*;
use crate::{local_order::LocalOrder, policy::AllowAll, testing::Script};

fn start(script: &Arc<Script>) -> Broker {
    let clock = Clock { now: || Timestamp(0), steady: || 0, random: || 0 };
    let instruments = Instruments::default();
    let (order, _) = LocalOrder::begin(script.clone(), clock, &instruments).unwrap();
    let parts = BrokerParts {
        order: Arc::new(order),
        store: script.clone(),
        instruments,
        encoders: crate::Encoders::whole(&[]),
        policy: Arc::new(AllowAll),
        clock,
        shards: 2,
        read_threads: 1,
        read_thread_begins: || (),
        read_throttle_factor: 0,
        quotas: Vec::new(),
    };
    Broker::start(parts).unwrap()
}

#[test]
fn what_is_applied_while_the_shards_begin_to_follow_is_not_lost_to_them() {
    let script = Arc::new(Script::default());
    script.applied_meanwhile.store(5, Ordering::SeqCst);
    let broker = start(&script);
    assert_eq!([broker.dispatched(0), broker.dispatched(1)], [Position(5); 2]);
    broker.close();
}
