"""What a plan says of secure sums, in either mode."""

from __future__ import annotations

from archipel.cli.planning import secure_lines
from archipel.federated.secure.plan import secure_plan
from secure import HELPER, WITH_HELPER, secure_job


def test_a_plan_says_how_sums_are_kept_secret_and_who_learns_what() -> None:
    plan = secure_plan(secure_job(), 10, 10)
    assert plan is not None
    first, *learns = secure_lines(plan)
    assert first == (
        "secure aggregation (SecAgg+): sums over 10 sites; threshold 7; at least 7 must be left at every stage"
    )
    assert all(line.startswith("  control learns ") for line in learns)


def test_a_plan_with_a_helper_names_it_and_what_both_servers_could_read_together() -> None:
    plan = secure_plan(secure_job(privacy=WITH_HELPER), 10, 4)
    assert plan is not None
    first, *learns, last = secure_lines(plan)
    assert first == ("secure aggregation (two servers): sums over 10 sites, at least 4; notary takes the masks off")
    assert {line.split(" learns ")[0].strip() for line in learns} == {"control", HELPER}
    assert last == "  control and notary together could read every site's update"
