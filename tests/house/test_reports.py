"""Reports that users of such software filed elsewhere, tried here in a hostile form, and the tests that guard each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPORTS: dict[str, list[str]] = {
    # Silently wrong numbers.
    "LQR: the stabilising solution is not the optimum where nothing is to be paid": [
        "envs/problems/test_lqr_hostile.py::test_where_nothing_costs_nothing_is_done",
        "envs/problems/test_lqr_hostile.py::test_a_state_that_no_cost_sees_is_left_alone_in_any_coordinates",
        "envs/problems/test_lqr_hostile.py::test_long_horizons_tend_to_the_least_solution",
        "envs/problems/test_lqr_hostile.py::test_the_optimum_that_costs_nothing_loses_nothing_and_others_infinitely_more",
    ],
    "LQR: an unreachable, unstable state without cost is refused": [
        "envs/problems/test_lqr_hostile.py::test_a_state_that_no_control_reaches_is_refused_only_where_it_costs_without_end",
        "envs/problems/test_lqr_hostile.py::test_growth_at_half_the_discount_rate_is_the_edge",
    ],
    "LQR: the exact step of a stiff, stable system is garbage": [
        "envs/problems/test_lqr_hostile.py::test_a_stiff_step_has_the_covariance_of_its_modes",
        "envs/problems/test_lqr_hostile.py::test_a_held_action_keeps_its_digits_from_short_steps_to_stiff_ones",
        "envs/problems/test_lqr_hostile.py::test_no_step_pays_for_a_cost_or_ends_in_nan",
    ],
    "LQR: P is off at dear control, sampled V at short steps, both with a stated error of 0": [
        "envs/problems/test_lqr_hostile.py::test_the_riccati_equation_is_solved_to_rounding_over_many_scales",
        "envs/problems/test_lqr_hostile.py::test_a_short_step_is_the_continuous_problem",
    ],
    "Krusell-Smith: a pole is taken for an equilibrium": [
        "envs/economies/krusell_smith/test_legal.py::test_no_pole_is_taken_for_an_equilibrium",
        "envs/economies/krusell_smith/test_legal.py::test_what_does_not_clear_is_no_steady_state",
        "envs/problems/test_firm_solution.py::test_a_solver_whose_numbers_are_not_right_says_so",
    ],
    "Krusell-Smith: a grid cuts the law, without a word": [
        "envs/economies/krusell_smith/test_legal.py::test_grids_that_cut_the_law_are_refused_and_warned_of",
        "envs/economies/krusell_smith/test_legal.py::test_goods_balance",
        "envs/economies/krusell_smith/test_legal.py::test_the_end_of_the_grid_is_chosen_so_that_it_does_not_matter",
    ],
    "Tauchen's chain has all of its mass in one state, or another persistence": [
        "envs/numerics/test_chains.py::test_tauchen_is_symmetric_tails_and_all",
        "envs/numerics/test_chains.py::test_the_published_chain_has_another_autocorrelation_and_says_so",
        "envs/economies/krusell_smith/test_legal.py::test_methods_for_productivity",
    ],
    "Merton: a fixed quadrature is sold as a closed form": [
        "envs/problems/test_merton_exact.py::test_log_utility_as_reported",
        "envs/problems/test_merton_exact.py::test_log_utility_by_adaptive_quadrature",
    ],
    "The impulse response of Krusell-Smith is noise": [
        "envs/economies/krusell_smith/test_responses.py::test_log_z_is_the_chains_own",
        "envs/economies/krusell_smith/test_responses.py::test_seeds_agree_by_as_much_as_errors_say",
        "envs/economies/krusell_smith/test_responses.py::test_the_two_responses_agree_for_small_shocks",
        "envs/economies/krusell_smith/test_responses.py::test_jacobians_are_derivatives_of_transitions",
        "envs/economies/industry/test_responses.py::test_at_unit_elasticity_the_price_undoes_the_shock",
    ],
    "A learner returns a policy from NaN": [
        "agents/core/test_learners_hostile.py::test_where_nothing_is_paid_the_value_is_zero",
        "agents/core/test_learners_hostile.py::test_a_reward_that_is_not_finite_is_named",
        "agents/core/test_learners_hostile.py::test_the_last_finite_checkpoint_remains",
        "agents/core/test_learners_hostile.py::test_a_learner_that_diverges_fails_and_is_not_ranked",
    ],
    "A learner is wrong and says that it is done": [
        "agents/core/test_learners_hostile.py::test_a_policy_is_right_where_values_have_many_sizes",
        "agents/core/test_learners_hostile.py::test_a_rule_that_was_not_met_is_a_warning_unless_the_user_stopped",
        "agents/core/test_learners_hostile.py::test_a_report_says_how_many_runs_met_the_rule",
    ],
    # Crashes, hangs, refusals of legal input.
    "No depreciation, hardly any substitution, no insurance": [
        "envs/economies/krusell_smith/test_legal.py::test_steady_states_that_others_computed",
        "envs/economies/krusell_smith/test_legal.py::test_hard_steady_states_pass_the_independent_judge",
        "envs/economies/krusell_smith/test_legal.py::test_without_insurance_the_reference_is_found_and_has_no_finite_value",
    ],
    "Merton: a tiny bequest and a large risk aversion crash SciPy": [
        "envs/problems/test_merton_exact.py::test_extremes_in_continuous_time_and_held",
        "envs/problems/test_merton_exact.py::test_a_small_bequest_is_eaten_within_the_last_step",
        "envs/problems/test_merton_exact.py::test_risk_aversion_beyond_all_floats_is_refused_by_its_name",
    ],
    "LQR: cheap control over a horizon takes minutes, an endless horizon hangs": [
        "envs/problems/test_lqr_hostile.py::test_stiff_horizons_against_the_hyperbolic_tangent",
        "envs/problems/test_lqr_hostile.py::test_an_endless_horizon_is_the_infinite_one",
    ],
    "Firm: policy iteration does not settle where building is cheap and selling dear": [
        "envs/problems/test_firm_solution.py::test_cheap_to_build_and_dear_to_sell",
        "envs/problems/test_firm_solution.py::test_the_monotone_scheme_agrees_with_order_4",
    ],
    "Numbers that no float holds, and sizes that no machine holds": [
        "envs/simulation/test_bad_inputs.py::test_what_no_machine_holds_is_refused_at_once",
        "envs/problems/test_lqr_hostile.py::test_what_floats_cannot_hold_is_refused",
    ],
    "draws=0 and simulate(-5) raise NumPy's errors": [
        "envs/economies/krusell_smith/test_responses.py::test_bad_arguments_of_a_response_are_refused",
        "envs/economies/krusell_smith/test_responses.py::test_bad_arguments_of_a_path_are_refused",
        "envs/economies/industry/test_responses.py::test_bad_arguments_are_refused",
    ],
    "beta, eis, gamma and sigma are not pointed to our names": [
        "envs/simulation/test_bad_inputs.py::test_symbols_of_the_literature_are_pointed_to_parameters",
    ],
    # Doors of the environments.
    "max_episode_steps ends at the default cut-off": [
        "envs/simulation/test_doors.py::test_max_episode_steps_is_the_length_of_an_episode",
        "envs/simulation/test_doors.py::test_the_default_length_is_in_the_spec",
        "envs/simulation/test_doors.py::test_below_a_finite_horizon_both_refuse",
        "envs/simulation/test_doors.py::test_agents_obey_a_time_limit_around_an_environment",
    ],
    "Environments and agents cannot be pickled": [
        "envs/simulation/test_doors.py::test_a_copy_goes_on_bitwise",
        "agents/core/test_pickles.py::test_a_learner_plays_as_before",
        "agents/core/test_pickles.py::test_spawned_processes_step_as_this_one",
    ],
    "Unknown keywords are no TypeError": [
        "envs/simulation/test_doors.py::test_an_unknown_keyword_is_a_type_error",
        "envs/simulation/test_doors.py::test_an_unknown_keyword_of_an_agent_is_a_type_error",
        "envs/simulation/test_doors.py::test_signatures_name_every_parameter",
    ],
    "Render modes that Gymnasium would wrap are refused": [
        "envs/simulation/test_doors.py::test_list_render_mode_is_gymnasiums"
    ],
    "evaluate refuses other people's models": [
        "benchmarks/judging/test_outsider.py::test_the_optimum_in_any_clothes_loses_nothing",
        "benchmarks/judging/test_outsider.py::test_a_model_of_stable_baselines3_is_judged",
        "benchmarks/judging/test_outsider.py::test_what_does_not_play_is_refused_in_a_sentence",
    ],
    "Observation boxes are infinite where states are bounded": [
        "envs/simulation/test_observation_bounds.py::test_boxes_are_bounded_where_states_are",
        "envs/simulation/test_observation_bounds.py::test_no_observation_leaves_its_box",
        "envs/simulation/test_observation_bounds.py::test_states_beyond_a_closed_edge_are_refused",
    ],
    "Pictures: log productivity vanishes, masses as states, slow frames": [
        "envs/simulation/test_rendering.py::test_log_productivity_is_drawn_where_it_is_negative",
        "envs/simulation/test_rendering.py::test_the_law_is_a_histogram_over_assets",
        "envs/simulation/test_rendering.py::test_a_frame_of_a_warm_figure_draws_no_axes_and_takes_little_time",
        "benchmarks/reporting/test_compare.py::test_households_have_five_full_panels",
        "benchmarks/reporting/test_compare.py::test_files_that_cannot_be_written_are_refused_before_anything_is_learnt",
    ],
    "A callback that stops leaves a checkpoint from which a run does not go on bitwise": [
        "agents/baselines/test_sb3.py::test_a_callback_that_stops_is_not_called_again_and_the_run_goes_on_bitwise",
    ],
    # Files and suites are data.
    "A forged checkpoint, suite or parameter runs a command": [
        "benchmarks/records/test_files_hostile.py::test_a_checkpoint_names_no_code",
        "benchmarks/records/test_files_hostile.py::test_suites_and_command_lines_give_parameters_only",
        "benchmarks/records/test_files_hostile.py::test_only_what_is_registered_is_made",
    ],
    "compare takes the agent's class from a result file, and unpickles a zip": [
        "benchmarks/records/test_files_hostile.py::test_results_name_registered_agents_only",
    ],
    "The cache of reference solutions is believed": [
        "envs/economies/krusell_smith/test_reference.py::test_forged_files_count_as_absent",
        "envs/economies/krusell_smith/test_reference.py::test_a_file_whose_numbers_were_altered_is_not_read",
    ],
    "Forged headers allocate, odd metrics crash, copied results count twice": [
        "benchmarks/records/test_files_hostile.py::test_a_forged_header_takes_no_memory",
        "benchmarks/records/test_files_hostile.py::test_metrics_that_are_no_numbers_are_refused_in_a_sentence",
        "benchmarks/records/test_files_hostile.py::test_a_result_belongs_to_its_file",
    ],
    "Labels are markup, links are followed, names leave the folder": [
        "benchmarks/running/test_runs_hostile.py::test_labels_are_shown_as_they_are",
        "benchmarks/running/test_runs_hostile.py::test_markdown_keeps_nothing_that_it_would_read",
        "benchmarks/running/test_runs_hostile.py::test_a_report_replaces_links_and_never_follows_them",
        "benchmarks/running/test_runs_hostile.py::test_the_name_of_a_suite_leads_nowhere",
    ],
    "Ctrl-C ends a run at the third press; a full disk is a traceback": [
        "benchmarks/running/test_runs_hostile.py::test_one_signal_ends_a_run_which_loses_nothing",
        "benchmarks/running/test_runs_hostile.py::test_a_full_disk_is_said_in_one_sentence",
        "benchmarks/running/test_runs_hostile.py::test_the_command_line_says_what_is_wrong_in_a_sentence",
    ],
    "Results depend on the number of threads": [
        "benchmarks/running/test_runs_hostile.py::test_the_number_of_threads_is_the_tasks_and_is_recorded",
    ],
    # Other inputs of the same kinds.
    "Random legal parameters": [
        "benchmarks/measure/test_legal.py::test_every_legal_parameter_is_answered_rightly_or_refused"
    ],
    "Random illegal input": ["benchmarks/running/test_runs_hostile.py::test_a_small_fuzz_finds_no_fault"],
    "Clients of reinforcement learning": [
        "envs/simulation/test_clients.py::test_an_installed_client_gets_along",
        "envs/simulation/test_clients.py::test_the_committed_table_is_of_every_client_and_case_and_none_failed",
    ],
}
"""What was reported, and file::test of each guard, by its path within tests/."""


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_has_its_tests(report: str) -> None:
    for guard in REPORTS[report]:
        file, _, name = guard.partition("::")
        tree = ast.parse((Path(__file__).parents[1] / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, guard
