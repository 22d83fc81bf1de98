//! The conformance suite: the same cases run against each implementation of a store.

mod cases;
mod common;

macro_rules! conformance {
    ($($module:ident: $($case:ident),* ;)*) => {
        mod memory {
            $($(#[test] fn $case() { crate::cases::$module::$case::<crate::common::Memory>(); })*)*
        }
        mod on_disk {
            $($(#[test] fn $case() { crate::cases::$module::$case::<crate::common::OnDisk>(); })*)*
        }
    };
}

conformance! {
    append:
        a_new_log_is_empty,
        messages_come_in_order_as_published,
        writes_that_change_nothing_are_no_commit,
        what_fails_changes_nothing,
        positions_are_as_the_order_gives_them,
        a_token_is_stored_also_where_nothing_else_is,
        groups_are_contiguous,
        times_are_the_clocks,
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
        relaxed_messages_ask_to_be_flushed,
        memory_is_read_like_the_rest;
    opening:
        the_feed_is_in_order,
        epochs_follow_openings,
        what_is_applied_survives,
        what_comes_while_somebody_begins_to_follow_is_not_lost,
        a_closed_store_refuses,
        readers_see_groups_whole_while_others_write;
}
