//! The conformance suite: the same cases run against each implementation of a store, and against each order over one.

mod cases;
mod common;
mod orders;

macro_rules! cases {
    ($($name:ident: $harness:ty),* => $cases:tt) => { $(mod $name { cases!(@ $harness, $cases); })* };
    (@ $harness:ty, {$($module:ident: $($case:ident),* ;)*}) => {
        $($(#[test] fn $case() { crate::cases::$module::$case::<$harness>(); })*)*
    };
}

// What an order may do with a store, whatever order that is.
cases! {
    memory: crate::common::Memory, on_disk: crate::common::OnDisk => {
        append:
            what_fails_changes_nothing,
            positions_are_as_the_order_gives_them,
            a_token_is_stored_also_where_nothing_else_is,
            a_group_that_begins_too_many_topics_is_refused_whole;
        forgetting:
            what_an_entry_is_about_it_does_not_forget,
            many_topics_come_and_go;
        read:
            a_window_ends_where_it_is_told,
            a_time_is_a_place;
        removal:
            exactly_one_message_is_taken,
            the_farthest_that_was_taken_is_told,
            what_is_not_there_is_not_taken,
            it_is_decided_in_the_order_of_writes,
            many_of_a_long_topic_are_taken,
            the_newest_of_a_key_can_be_taken,
            a_message_in_memory_can_be_taken,
            a_message_goes_when_its_own_time_is_over,
            a_lifetime_in_memory_ends_also_without_options,
            a_lifetime_follows_no_clock_that_is_set,
            many_lifetimes_end_in_steps;
    }
}

// What a log is like, of one node or of several.
cases! {
    local_in_memory: crate::orders::Local<crate::orders::InMemory>,
    local_on_disk: crate::orders::Local<crate::orders::OnSled>,
    replicas: crate::orders::Replicas => {
        append:
            a_new_log_is_empty,
            messages_come_in_order_as_published,
            groups_are_contiguous,
            a_condition_holds_or_not,
            a_condition_sees_earlier_groups,
            a_key_replays,
            a_key_of_another_request_is_refused,
            a_key_works_within_one_call,
            a_key_expires,
            a_key_survives_reopening,
            a_key_comes_before_a_condition;
        read:
            a_budget_of_messages,
            a_budget_of_bytes_gives_one_at_least,
            a_budget_of_the_scan,
            upto_is_honoured,
            patterns_match,
            many_topics_are_merged,
            bounds_of_filters,
            the_interval_of_a_topic,
            before_last_counts_backwards,
            get_finds_one_message,
            topics_are_paged;
        trim:
            a_trim_takes_what_is_there,
            a_trim_spares_what_is_newer,
            a_trim_of_nothing_is_nothing,
            the_farthest_trim_of_a_filter,
            tidying_changes_nothing_that_is_read;
        options:
            options_take_effect_and_survive,
            the_oldest_beyond_a_count_go,
            the_oldest_beyond_a_size_go,
            the_old_go,
            the_newest_of_a_key_stays,
            what_is_stored_is_compacted_later,
            memory_is_read_like_the_rest;
        forgetting:
            what_holds_nothing_is_forgotten,
            what_holds_something_is_not_forgotten,
            a_topic_that_comes_back_begins_anew,
            keys_of_what_is_forgotten_take_nothing;
        opening:
            epochs_follow_openings,
            of_epochs_begun_at_once_the_overtaken_begins_nothing,
            what_is_applied_survives;
    }
}

// What only a local order does: its clocks may be set back, a commit is the writes of one call, and it closes its store.
cases! {
    local_clock_in_memory: crate::orders::Local<crate::orders::InMemory>,
    local_clock_on_disk: crate::orders::Local<crate::orders::OnSled> => {
        append:
            writes_that_change_nothing_are_no_commit,
            times_are_the_clocks;
        options:
            relaxed_messages_ask_to_be_flushed;
        opening:
            the_feed_is_in_order,
            what_comes_while_somebody_begins_to_follow_is_not_lost,
            a_closed_store_refuses,
            readers_see_groups_whole_while_others_write;
    }
}
