"""What deployments/prefect.yaml promises, without a server. That it works: test_topology.py."""

import yaml

from tests.e2e.topology import DEPLOYMENTS


def test_the_nightly_runs_one_at_a_time_outside_the_hours_in_which_clocks_change() -> None:
    """prefect.yaml: a later run is cancelled while one runs; the hour is not one that DST repeats or skips."""
    nightly = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"][-1]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    [schedule] = nightly["schedules"]
    assert int(schedule["cron"].split()[1]) not in {1, 2, 3}
    assert schedule["timezone"]


def test_no_path_stands_in_the_deployments() -> None:
    """prefect.yaml works from any checkout: where that lies is read from the worker's environment."""
    [step] = yaml.safe_load(DEPLOYMENTS.read_text())["pull"]
    assert step == {"digitrec_prefect.checkout.enter_checkout": {"directory": "{{ $DIGITREC_HOME }}"}}
