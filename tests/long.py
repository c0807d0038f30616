"""Which tests take long, measured: each costs what a hundred others do.

Most tests of single modules take a hundredth of a second.  Those here take a fifth of a second of
CPU or more, each time: they count up to a bound, try every byte of a file or every turn of the
event loop, or draw hundreds of examples.  Together they cost more than two in five of the tests
that are quick otherwise, so they are left to the whole.
"""

from __future__ import annotations

from typing import Final

LONG: Final = frozenset(
    {
        "access/test_small_files.py::test_editors_at_the_same_time_lose_nothing",
        "access/test_spellings.py::test_no_fork_is_of_a_source_outside_of_the_prefix",
        "access/test_spellings.py::test_no_target_leads_out_of_the_prefix",
        "access/test_token_commands.py",
        "access/test_token_file.py::test_any_tokens_can_be_written_and_removed",
        "filestore/engine/test_bounds.py::test_content_types_take_what_is_written_down",
        "filestore/engine/test_bounds.py::test_deleted_streams_that_wait_take_what_is_written_down",
        "filestore/engine/test_bounds.py::test_last_uses_that_wait_take_what_is_written_down",
        "filestore/engine/test_bounds.py::test_verified_streams_take_what_is_written_down",
        "filestore/engine/test_forgotten_producers.py::test_after_a_kill_and_a_restart_the_same_are_known",
        "filestore/engine/test_lifetimes.py",
        "filestore/engine/test_random_counts.py::test_the_numbers_are_those_of_the_directories",
        "filestore/engine/test_records_of_large_appends.py::test_pages_of_a_million_messages_read_a_bounded_piece_each",
        "filestore/engine/test_records_of_large_appends.py::test_the_last_ones_are_looked_for_from_the_beginning_once",
        "filestore/engine/test_removed.py::test_the_table_stays_within_its_bound",
        "filestore/engine/test_uses.py::test_a_crash_takes_a_minute_at_most_of_the_time_that_a_stream_was_followed",
        "filestore/engine/test_uses.py::test_idle_followers_cost_a_write_a_minute",
        "filestore/files/test_append_lines.py::test_a_million_appends_take_no_more_than_a_few_pieces",
        "filestore/files/test_forbidden_calls.py::test_streams_are_written_forked_and_recovered_without_forbidden_calls",
        "filestore/files/test_recovery.py::test_every_torn_state_of_the_files_is_completed",
        "filestore/files/test_system_calls.py::test_calls_that_many_hosts_lack_are_not_used",
        "http/test_asgi_lives.py::test_tokens_say_who_asks_and_may_be_granted_and_revoked",
        "http/test_asgi_lives.py::test_who_comes_second_is_told_the_ways_out",
        "http/test_cancelled_readers.py::test_a_reader_that_leaves_at_any_turn_of_the_loop_leaves_nothing_open",
        "http/test_details_over_http.py::test_any_path_is_read_or_refused",
        "http/test_event_streams.py::test_a_line_of_json_is_a_message",
        "http/test_event_streams.py::test_no_event_begins_or_ends_inside_an_append",
        "http/test_fast_lane_alike.py::test_the_same_answers_to_a_head_and_its_body_apart",
        "http/test_fast_lane_alike.py::test_the_same_answers_to_mutated_requests",
        "http/test_fast_lane_alike.py::test_the_same_answers_to_pipelined_requests",
        "http/test_fast_lane_alike.py::test_the_same_answers_to_requests_in_pieces",
        "http/test_heads.py::test_what_was_remembered_is_what_a_parser_says",
        "http/test_live_reads.py::test_a_slow_reader_falls_behind_and_misses_nothing",
        "http/test_metrics.py::test_no_request_makes_a_new_series",
        "maintenance/test_commands.py",
        "maintenance/test_incomplete.py::test_a_sealed_file_that_ends_early_makes_the_stream_incomplete",
        "maintenance/test_incomplete.py::test_the_exit_status_tells_each_state_and_the_last_line_names_it",
        "maintenance/test_repair.py::test_every_damaged_byte_is_cut_to_a_sound_prefix_and_kept",
        "maintenance/test_verify.py::test_a_flipped_bit_in_any_byte_of_any_stream_is_found_and_named",
        "maintenance/test_verify.py::test_what_ends_early_is_normal_wherever_it_ends",
        "model/test_paths.py::test_every_path_comes_back_from_its_text",
        "postgres/test_store_commands.py::test_without_the_driver_it_says_what_to_install",
        "postgres/test_store_opened.py::test_a_password_among_the_flags_is_refused",
        "rules/test_json_mode.py::test_any_array_is_split_into_the_texts_of_its_elements",
        "rules/test_json_mode.py::test_millions_of_messages_take_the_memory_of_a_few_bodies",
        "rules/test_producer_table.py::test_ten_thousand_new_producers_do_not_cost_ten_thousand_looks_at_all",
        "test_cancelled_closing.py::test_closing_goes_on_when_all_tasks_are_cancelled",
        "test_cancelled_closing.py::test_control_c_ends_a_program_without_a_word",
        "test_cancelled_verbs.py",
        "test_cli.py",
        "test_documents.py::test_the_documentation_builds_without_a_warning",
        "test_embedding_page.py",
        "test_forgotten.py",
        "test_home.py::test_a_forked_process_is_told",
        "test_library.py::test_the_loop_goes_on_while_many_messages_are_made",
        "test_namesake.py::test_a_server_says_it_in_its_log",
        "test_namesake.py::test_a_server_says_what_uninstalling_the_other_has_taken_along",
        "test_root.py::test_every_name_resolves_however_it_is_imported",
        "test_security_page.py::test_pages_of_other_origins_cannot_use_the_cookie",
        "test_security_page.py::test_with_a_cookie_users_have_what_the_application_says_and_without_nothing",
        "test_types.py",
    }
)
"""Files, and tests with all their parameters, that ``scripts/test --quick`` leaves to the whole."""

FIRST: Final = frozenset(
    {
        "asgi/test_asgi_conformance.py",
        "conformance/test_conformance.py",
        "postgres/test_store_conformance.py",
    }
)
"""Files whose tests are whole suites of others: first in line, as all else goes on beside them."""

LONGEST: Final = (
    "simulation/test_simulation.py",
    "deploy/test_proxies.py",
    "hostile/test_hostile.py",
    "test_cancelled_verbs.py",
    "deploy/test_booted.py",
    "process/test_tls_handshakes.py",
    "bench/test_bench.py",
    "e2e/test_backups.py",
    "e2e/test_access_javascript.py",
    "e2e/test_forked_processes.py",
    "test_documents.py",
    "process/test_tls.py",
    "access/test_token_commands.py",
    "process/test_config_commands.py",
    "test_cli.py",
    "test_types.py",
    "e2e/test_javascript_client.py",
    "deploy/test_first_server.py",
    "fuzz/test_fuzz_disk.py",
    "e2e/test_runbook_page.py",
    "e2e/test_kills.py",
    "test_embedding_page.py",
    "deploy/test_manual.py",
    "shell/test_verbs_on_streams.py",
    "shell/test_pipes.py",
    "shell/test_contexts.py",
    "bench/test_builds.py",
    "runs/test_killed_runs.py",
    "simulation/test_simulated_nodes.py",
    "e2e/test_failing_machine.py",
    "deploy/test_distributions.py",
    "filestore/engine/test_lifetimes.py",
    "filestore/engine/test_forks.py",
    "filestore/files/test_recovery.py",
    "e2e/test_many_listed.py",
    "deploy/test_containers.py",
)
"""Files of the whole as they are begun, the longest first: all else is shorter."""
