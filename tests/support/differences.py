"""Where oxicorn does something else than Gunicorn (or, for ASGI, uvicorn) on purpose: the one list.

The suite describes oxicorn. Against Gunicorn (``--server gunicorn``) every test named in ``DIFFERENCES``
must FAIL (strict xfail): a test that passes there is no difference and has to leave this list. Whoever
adds a line adds the reason, in terms of what a user gets. ``UVICORN`` is the same for ``--server uvicorn``,
which runs the tests marked ``uvicorn``: what ASGI applications are promised wherever they run.

Keys are test names relative to ``tests/``, or files in which every test differs. A name covers all
parameters of the test; ``name[a,b]`` only those cases that have a parameter ``a`` and a parameter ``b``.
"""

from __future__ import annotations

import pytest

# Reasons given more than once.
KEEP_ALIVE_ON_SYNC = "sync workers keep connections alive: the gateway holds them, not the worker"
NEVER_TRUNCATED = "an answer shorter than promised ends the connection at once, the next is never taken for its rest"
SLOW_CLIENTS = "slow clients wait in the gateway; a worker is only given whole requests and never waits for a reader"
NOT_SENT_TOO_EARLY = "PEP 3333: the head waits for the first item that is not empty, so the error can still be told"
EMPTY_FILE = "an empty file ends exactly once (Gunicorn sends the last chunk twice on a kept connection)"
WHOLE_BODIES = "the application is only called for whole bodies (Gunicorn: a cut upload reads as a complete one)"
GATEWAY = "there is a gateway process"
WORKER_DEATH = "a worker holds no connection: its death costs a 502 for what it had in hand, and no connection"
RELOAD_KEEPS = "connections are the gateway's: worker changes close none of them"
BROKEN_RELOAD = "a broken deploy leaves the old generation serving (Gunicorn: the whole server stops)"
BROKEN_SETTINGS = "settings that cannot be read leave the old ones in force (Gunicorn: the master exits)"
EXPIRED = "a request beyond `timeout` is told 504, its stack and request line are logged, others are spared"
QUEUE = "the request queue is bounded, in number and in time: 503 with Retry-After"
DRAIN = "TERM: what was accepted is answered, what comes later is refused at once; nobody is reset"
NO_FORGERY = "control characters are escaped in every field of the access log"
ONE_LINE = "a refusal is one line: setting, value, where it came from (file and line, variable, flag), what is allowed"
ONE_REASON = "what cannot be used is one line that says what is wrong (Gunicorn: a traceback, or nothing)"
SUCCESSOR_FIRST = "the successor is ready before the predecessor stops taking work"
DETACHED = "--daemon ends when the server listens, or tells why it does not (Gunicorn: at once, with 0)"
RELOADER = "--reload starts a new generation, once for each change; the old one serves until it is ready"
CHECKED = "--check-config checks what would only show later"

DIFFERENCES: dict[str, str] = {
    # PEP 3333
    "wsgi/test_applications.py::test_allowed_application_is_answered[replaces_head]": (
        "start_response with exc_info replaces the head (Gunicorn keeps the Content-Length of the first)"
    ),
    "wsgi/test_applications.py::test_replaced_head_leaves_nothing_of_the_first": (
        "start_response with exc_info replaces the head (Gunicorn keeps the Content-Length of the first)"
    ),
    "wsgi/test_applications.py::test_broken_application_is_a_500[sync,never_starts]": (
        "no start_response is an error (Gunicorn sends the status line 'HTTP/1.1 None')"
    ),
    "wsgi/test_applications.py::test_broken_application_is_a_500[returns_text]": NOT_SENT_TOO_EARLY,
    "wsgi/test_applications.py::test_broken_application_is_a_500[writes_text]": NOT_SENT_TOO_EARLY,
    "wsgi/test_applications.py::test_error_after_an_empty_item_is_still_a_500": NOT_SENT_TOO_EARLY,
    "wsgi/test_applications.py::test_less_than_promised_ends_the_connection[gthread]": NEVER_TRUNCATED,
    "wsgi/test_files.py::test_file_shorter_than_promised_ends_the_connection[gthread]": NEVER_TRUNCATED,
    "wsgi/test_applications.py::test_long_piece_leaves_in_few_messages": (
        "long pieces are cut into chunks that the gateway can send one by one"
    ),
    "wsgi/test_applications.py::test_head_has_a_bound": "a response's head is bounded, as what is held for a client is",
    "wsgi/test_files.py::test_empty_file_without_length_ends_exactly_once": EMPTY_FILE,
    "wsgi/test_file_kinds.py::test_every_file_arrives_as_it_is_read": (
        "the descriptor is sent from where it stands, whatever reading would give"
    ),
    # HTTP/1
    "http/test_keep_alive.py::test_connection_is_kept[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_connection_is_kept_after_every_framing[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_http_1_0_connection_is_kept_on_request[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_pipelined_requests_are_answered_in_order[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_pipelined_in_a_trickle[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_pipelined_after_a_large_answer[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_pipelined_with_a_bad_one_answers_the_good_ones_first[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_half_closed_client_still_gets_its_answers[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_empty_line_before_a_request_is_skipped[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_keep_alive.py::test_close_is_found_in_a_list_of_options[gthread]": (
        "Connection is a list of options (RFC 9110, 7.6.1)"
    ),
    "http/test_keep_alive.py::test_close_is_found_in_a_list_of_options[gevent]": (
        "Connection is a list of options (RFC 9110, 7.6.1)"
    ),
    "http/test_requests.py::test_missing_host_is_refused": "an HTTP/1.1 request without Host is a 400 (RFC 9112, 3.2)",
    "http/test_requests.py::test_host_that_names_no_host_is_refused": "an empty Host is a 400 (RFC 9110, 4.2.1)",
    "http/test_requests.py::test_connect_is_not_implemented": "CONNECT is a 501",
    "http/test_requests.py::test_refused_with_its_status_and_the_connection_ends[http-2]": "505, not 400",
    "http/test_requests.py::test_refused_with_its_status_and_the_connection_ends[http-0.9]": "505, not 400",
    "http/test_requests.py::test_refused_with_its_status_and_the_connection_ends[length-huge]": "413, not 400",
    "http/test_requests.py::test_target_and_host_that_disagree_are_refused": (
        "an absolute target and a Host that differ are refused (RFC 9112, 3.2.2 lets the target win)"
    ),
    "http/test_requests.py::test_client_that_does_not_wait_gets_one_final_answer[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_requests.py::test_truncated_upload_never_reaches_the_application": WHOLE_BODIES,
    "http/test_slow_clients.py::test_head_and_body_byte_by_byte[sync]": KEEP_ALIVE_ON_SYNC,
    "http/test_slow_clients.py::test_slow_sender_holds_no_worker": SLOW_CLIENTS,
    "http/test_slow_clients.py::test_slow_reader_holds_no_worker": SLOW_CLIENTS,
    "http/test_slow_clients.py::test_lingering_clients_hold_no_worker": SLOW_CLIENTS,
    "http/test_slow_clients.py::test_thousand_idle_connections": SLOW_CLIENTS,
    # Processes
    "process/test_deaths.py::test_killed_workers_cost_only_what_they_were_working_on": WORKER_DEATH,
    "process/test_deaths.py::test_killed_worker_in_hand_is_a_502_at_once": WORKER_DEATH,
    "process/test_deaths.py::test_worker_that_dies_again_and_again_makes_no_fork_storm": (
        "dying workers are replaced with growing pauses (Gunicorn: at full speed)"
    ),
    "process/test_deaths.py::test_killed_gateway_is_replaced_and_the_workers_stay": GATEWAY,
    "process/test_deaths.py::test_killed_gateway_while_workers_are_busy": GATEWAY,
    "process/test_deaths.py::test_killed_arbiter_leaves_no_process[sync]": (
        "no orphans: the others notice at once (Gunicorn: sync workers go on for up to half the timeout)"
    ),
    "process/test_recycling.py::test_max_requests_loses_nothing[True]": RELOAD_KEEPS,
    "process/test_recycling.py::test_single_worker_is_recycled_without_a_gap": SUCCESSOR_FIRST,
    "process/test_recycling.py::test_request_beyond_timeout_is_a_504_with_the_stack_in_the_log": EXPIRED,
    "process/test_recycling.py::test_timeout_spares_the_requests_beside_it": EXPIRED,
    "process/test_recycling.py::test_stuck_worker_that_ignores_every_signal_is_killed": EXPIRED,
    "process/test_recycling.py::test_full_queue_is_a_503_at_once": QUEUE,
    "process/test_recycling.py::test_request_that_waited_too_long_is_a_503": QUEUE,
    "process/test_recycling.py::test_client_that_leaves_the_queue_costs_no_worker_time": (
        "a request whose client is gone is never run"
    ),
    "process/test_rest.py::test_a_server_at_rest_hardly_ever_wakes_up": (
        "signs of life come as seldom as `timeout` allows (Gunicorn's threads and event loops: each second)"
    ),
    "process/test_reload.py::test_no_request_fails_in_20_reloads[True]": RELOAD_KEEPS,
    "process/test_reload.py::test_old_code_serves_until_the_new_is_ready": SUCCESSOR_FIRST,
    "process/test_reload.py::test_broken_code_leaves_the_old_one_serving": BROKEN_RELOAD,
    "process/test_reload.py::test_broken_config_file_leaves_the_old_one_in_force": BROKEN_SETTINGS,
    "process/test_reload.py::test_preloaded_code_is_reloaded_too": "HUP loads preloaded applications anew",
    # Signals and hooks
    "signals/test_hooks.py::test_reload_hooks": SUCCESSOR_FIRST,
    "signals/test_hooks.py::test_a_reload_whose_hook_raises_is_refused_for_that_reason": "such a reload is given up",
    "signals/test_hooks.py::test_commands_of_a_hooks_thread_keep_their_exit_codes": "only own children are waited for",
    "signals/test_scaling.py::test_scaling_survives_a_reload": "HUP remembers TTIN and TTOU unless `workers` changed",
    "signals/test_scaling.py::test_hangup_that_reaches_the_workers_kills_none": "workers ignore HUP",
    "signals/test_stop.py::test_term_lets_nobody_new_in": DRAIN,
    "signals/test_stop.py::test_term_under_load_answers_everything_it_accepted[gthread]": DRAIN,
    "signals/test_stop.py::test_term_serves_the_backlog": DRAIN,
    "signals/test_stop.py::test_term_does_not_wait_where_no_connection_is_kept": "the setting is oxicorn's",
    "signals/test_stop.py::test_ctrl_c_does_not_wait_for_kept_connections": "the setting is oxicorn's",
    "signals/test_told.py::test_term_to_every_process_loses_nothing[sync]": DRAIN,
    "signals/test_told.py::test_term_to_every_process_loses_nothing[gthread]": DRAIN,
    # Privileges
    "process/test_privileges.py::test_gateway_runs_as_the_user_and_group": GATEWAY,
    "process/test_privileges.py::test_initgroups_gives_the_groups_of_the_user": (
        "`group` becomes the group of the process with initgroups too"
    ),
    "process/test_privileges.py::test_rotated_logs_are_written_on_in_a_directory_of_roots": (
        "the arbiter makes rotated logs anew and hands them over"
    ),
    "process/test_privileges.py::test_a_link_in_place_of_a_log_gives_nothing_away": (
        "what a link leads to keeps its owner"
    ),
    # Reloading by the source
    "process/test_reloader.py::test_changed_module_is_served[inotify]": "inotify needs no package",
    "process/test_reloader.py::test_one_change_is_one_reload_whoever_sees_it": RELOADER,
    "process/test_reloader.py::test_broken_code_leaves_the_old_serving_until_it_is_mended": RELOADER,
    "process/test_reloader.py::test_file_that_only_broken_code_has_loaded_is_watched": RELOADER,
    "process/test_reloader.py::test_settings_are_read_again_with_the_source": RELOADER,
    "process/test_reloader.py::test_extra_files_and_patterns_are_watched": (
        "a file that is new and matches a pattern is a change"
    ),
    "process/test_reloader.py::test_other_files_of_a_directory_do_not_matter": "inotify needs no package",
    "process/test_reloader.py::test_touch_is_a_change_and_removal_is_none": (
        "a file that became older (restored from a copy) has changed too"
    ),
    "process/test_reloader.py::test_preloaded_code_is_reloaded": "preloaded code is reloaded",
    "process/test_reloader.py::test_asgi_applications_are_reloaded_too": (
        "a SyntaxError is shown with its traceback and mended, on asgi too"
    ),
    "process/test_reloader.py::test_spew_prints_the_lines_of_the_application[gthread]": ("threads are traced too"),
    # Upgrades
    "process/test_upgrade.py::test_successor_takes_over_and_nobody_notices[('--reuse-port',)]": (
        "USR2 works with reuse_port (Gunicorn: the new master crashes)"
    ),
    "process/test_upgrade.py::test_descriptors_are_handed_on": (
        "a successor knows fd:// binds by their order (Gunicorn: the old number is tried and not there)"
    ),
    # What is checked before a deploy, Paste Deploy
    "cli/test_check_config.py::test_what_would_only_show_later_is_one_line": CHECKED,
    "cli/test_check_config.py::test_every_problem_has_its_line_and_the_application_is_loaded_all_the_same": CHECKED,
    "cli/test_check_config.py::test_certificates_and_worker_class_must_be_there": CHECKED,
    "cli/test_check_config.py::test_pythonpath_counts": CHECKED,
    "frameworks/test_paste.py::test_file_named_in_the_config_file": "paste counts wherever it is set",
    # Background, service manager
    "process/test_activation.py::test_manager_is_told_when_the_server_is_up_reloads_and_stops": (
        "READY=1 when workers are ready; RELOADING, STOPPING"
    ),
    "process/test_activation.py::test_manager_is_told_who_is_the_service_after_an_upgrade": (
        "the end of an upgraded server is not the end of the service"
    ),
    "process/test_activation.py::test_manager_is_told_once_that_a_refused_reload_is_over": (
        "READY=1 when workers are ready; RELOADING, STOPPING"
    ),
    "process/test_daemon.py::test_daemon_listens_when_its_starter_ends": DETACHED,
    "process/test_daemon.py::test_what_keeps_it_from_starting_is_told_on_the_terminal": DETACHED,
    "process/test_daemon.py::test_a_hook_that_fails_is_told_on_the_terminal": DETACHED,
    "process/test_daemon.py::test_pid_file_of_a_living_daemon_keeps_a_second_one_from_starting": DETACHED,
    # Pid file and directories
    "cli/test_bind.py::test_address_that_is_named_twice_is_an_error_at_once": "its own address is not tried five times",
    "cli/test_bind.py::test_stale_pid_file_is_replaced[-1]": "a number that is no pid names no living process",
    "cli/test_bind.py::test_pid_file_that_cannot_be_written_refuses_the_reload": BROKEN_SETTINGS,
    "cli/test_bind.py::test_worker_tmp_dir_must_exist": "a missing directory is one line and exit code 1",
    # Command line
    "cli/test_application.py::test_attribute_path_is_followed": "MODULE:dotted.attribute is accepted",
    "cli/test_command_line.py::test_own_config_file_is_found_by_default": "oxicorn.conf.py is found too",
    "cli/test_command_line.py::test_refusal_names_setting_value_source_and_what_is_allowed": (
        "a refusal says what is allowed and where the value came from"
    ),
    "cli/test_command_line.py::test_gateway_has_a_title": GATEWAY,
    # Sources of settings
    "settings/test_sources.py::test_higher_sources_win[4]": "OXICORN_CMD_ARGS is read too",
    "settings/test_sources.py::test_reload_reads_a_config_module_again": "python:MODULE is imported anew by a reload",
    "settings/test_sources.py::test_refusal_names_the_line_of_the_config_file": ONE_LINE,
    "settings/test_sources.py::test_refusal_names_the_flag": ONE_LINE,
    "settings/test_sources.py::test_refusal_names_the_variable": ONE_LINE,
    "settings/test_sources.py::test_refusal_names_the_variable_of_a_default": ONE_LINE,
    "settings/test_sources.py::test_line_of_every_kind_of_assignment": ONE_LINE,
    "settings/test_sources.py::test_refusal_names_the_config_file_as_it_was_named": ONE_LINE,
    "settings/test_sources.py::test_what_is_not_available_names_the_line": "what is not available says so",
    "settings/test_sources.py::test_config_file_that_raises_shows_its_traceback_once[python:settings]": (
        "a config module that raises shows where (Gunicorn: the last line of its traceback)"
    ),
    "settings/test_sources.py::test_reload_with_a_refused_value_keeps_the_settings_and_logs_one_line": BROKEN_SETTINGS,
    "settings/test_sources.py::test_reload_of_a_config_file_that_raises_logs_its_traceback_once": BROKEN_SETTINGS,
    "settings/test_sources.py::test_misspelled_names_get_a_warning_with_the_nearest_name": (
        "a name that looks like a setting's gets a warning"
    ),
    "settings/test_config_styles.py::test_workers_per_core_and_a_report_on_standard_output": (
        "what a config file prints is written once (Gunicorn: again by every process)"
    ),
    # Programs
    "programs/test_programs.py::test_refused_setting_of_a_program": ONE_LINE,
    # Logs
    "logging/test_access_log.py::test_other_answers_are_logged_too[/raises]": (
        "a request that failed is logged like any other (Gunicorn: its path is None)"
    ),
    "logging/test_access_log.py::test_refused_request_is_logged": "requests the server refuses have a line too",
    "logging/test_access_log.py::test_file_bytes_are_counted": "bytes sent by sendfile are counted",
    'logging/test_access_log.py::test_header_values_stay_inside_their_quotes[end\\"]': (
        "a backslash is escaped, so that it cannot hide the closing quote"
    ),
    "logging/test_access_log.py::test_user_name_cannot_forge_a_line": NO_FORGERY,
    "logging/test_access_log.py::test_decoded_path_cannot_forge_a_line": NO_FORGERY,
    "logging/test_logger_class.py::test_logger_class_that_is_none_is_one_clear_error": ONE_REASON,
    "logging/test_logger_class.py::test_logger_that_raises_costs_no_request": (
        "what a logger class raises is logged and costs no request"
    ),
    "logging/test_logger_class.py::test_failed_request_has_one_line[/raises]": (
        "a request that failed is logged like any other (Gunicorn: its path is None)"
    ),
    "logging/test_logger_class.py::test_request_beyond_timeout_has_one_line": EXPIRED,
    "logging/test_logger_class.py::test_request_whose_worker_died_has_one_line": WORKER_DEATH,
    "logging/test_logger_class.py::test_refused_request_goes_through_the_logger": (
        "requests the server refuses have a line too"
    ),
    "logging/test_asgi_access_log.py::test_request_beyond_timeout_has_one_line": EXPIRED,
    "logging/test_asgi_access_log.py::test_client_that_left_has_one_line": "499, not 500, if the client left",
    "logging/test_log_config.py::test_unusable_configuration_is_one_clear_error": ONE_LINE,
    "logging/test_log_config.py::test_check_config_looks_at_the_logs": "--check-config looks at the logs' settings too",
    "logging/test_log_config.py::test_broken_one_at_reload_leaves_the_old_one": (
        "the old configuration stays as it was read, although its file is broken now, and its log says so"
    ),
    "logging/test_log_config.py::test_reload_may_begin_and_end_it": "handlers of a logconfig that is gone go with it",
    "logging/test_syslog.py::test_syslog_that_cannot_be_reached_is_one_clear_error": ONE_LINE,
    "logging/test_statsd.py::test_requests_in_the_queue_are_backlog": QUEUE,
    "logging/test_statsd.py::test_requests_no_worker_answered_are_measured": "every request is measured",
    "logging/test_statsd.py::test_server_that_does_not_read_holds_nobody_up": (
        "metrics are dropped where the StatsD server does not keep up (Gunicorn: workers wait)"
    ),
    "logging/test_json_log.py": "the JSON access log is oxicorn's own",
    # WebSockets
    "frameworks/test_websocket.py::test_frames_sent_with_the_handshake_are_not_lost": (
        "what was read with the head is handed over with the socket"
    ),
}

SIGNATURE = "an application is known by what it can be called with (uvicorn: by whether it is a coroutine function)"
PLAIN_CODES = "events hold plain numbers (uvicorn: members of an enumeration)"

UVICORN: dict[str, str] = {
    "asgi/test_specification_main.py::test_every_kind_of_single_callable_is_served[method]": SIGNATURE,
    "asgi/test_specification_main.py::test_every_kind_of_single_callable_is_served[partial]": SIGNATURE,
    "asgi/test_specification_main.py::test_every_kind_of_single_callable_is_served[returns_awaitable]": SIGNATURE,
    "asgi/test_specification_http.py::test_transfer_encoding_of_the_application_is_ignored[identity]": (
        "a Transfer-Encoding of the application's never reaches the client"
    ),
    "asgi/test_specification_http.py::test_transfer_encoding_of_the_application_is_ignored[gzip, chunked]": (
        "a Transfer-Encoding of the application's never reaches the client"
    ),
    "asgi/test_specification_http.py::test_headers": "whitespace behind a header's value is no part of it",
    "asgi/test_specification_http.py::test_bodies_are_joined[1.0]": "HTTP/1.0 clients are sent no chunks",
    "asgi/test_specification_websocket.py::test_malformed_event_before_the_handshake_raises["
    "{'type': 'websocket.accept', 'subprotocol': 5}]": "values of wrong types raise out of send",
    "asgi/test_specification_websocket.py::test_malformed_event_raises[{'type': 'websocket.send'}]": (
        "a message without content raises out of send"
    ),
    "asgi/test_specification_websocket.py::test_malformed_event_raises["
    "{'type': 'websocket.send', 'text': None, 'bytes': None}]": "a message without content raises out of send",
    "asgi/test_specification_websocket.py::test_client_closes[None]": PLAIN_CODES,
    "asgi/test_specification_websocket.py::test_refused_frames_close_with_their_code": PLAIN_CODES,
    "asgi/test_specification_websocket.py::test_application_that_fails_closes_the_socket": (
        "a failed application closes with 1011 (uvicorn drops the connection)"
    ),
}

LISTS = {"oxicorn": {}, "gunicorn": DIFFERENCES, "uvicorn": UVICORN}


def applies(server: str, item: pytest.Item) -> bool:
    """Whether the test says anything about ``server``: ASGI is compared with uvicorn, all else with Gunicorn.

    Metrics and the control socket are ours; Gunicorn's part of them is its client, which is run.
    """
    shared = item.get_closest_marker("uvicorn") is not None
    is_asgi = shared or "asgi" in item.path.parts
    is_own = "monitoring" in item.path.parts
    return {"oxicorn": True, "gunicorn": not is_asgi and not is_own, "uvicorn": shared}[server]


def reason(server: str, name: str, item: pytest.Item) -> str | None:
    """Why the test behaves differently under ``server``; None if it should pass there."""
    differences = LISTS[server]
    test = name.partition("[")[0]
    for listed in (test, test.partition("::")[0]):
        if listed in differences:
            return differences[listed]
    callspec = getattr(item, "callspec", None)
    values = {str(value) for value in callspec.params.values()} if callspec else set()
    for key, text in differences.items():
        listed, _, parameters = key.removesuffix("]").partition("[")
        if listed == test and parameters and ({parameters} <= values or values.issuperset(parameters.split(","))):
            return text
    return None
