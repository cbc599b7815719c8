"""Which metrics and labels an expression uses."""

import pytest

from orchestrator.monitoring.promql import Matcher, QueryError, Selector, parse


@pytest.mark.parametrize(
    ("expression", "metrics", "grouped"),
    [
        ("up == 0", {"up"}, set()),
        ("sum by (role) (rate(a_total[5m]))", {"a_total"}, {"role"}),
        ("sum(rate(a_total[$__rate_interval])) by (role, node)", {"a_total"}, {"role", "node"}),
        ("max(a) without (instance) - ignoring(job) b", {"a", "b"}, {"instance", "job"}),
        ("a / on (node) group_left (version) b_info", {"a", "b_info"}, {"node", "version"}),
        ("time() - a > bool 5e3 and b offset 5m", {"a", "b"}, set()),
        ("quantile_over_time(0.9, a[1h30m:1m])", {"a"}, set()),
        ("# why\nabs(-a) ^ 2 or vector(0)", {"a"}, set()),
        ("job:a:rate5m > inf", {"job:a:rate5m"}, set()),
        ("a[5m] @ start()", {"a"}, set()),
    ],
)
def test_metrics_are_told_from_functions_and_label_lists(expression: str, metrics: set[str], grouped: set[str]) -> None:
    """Names before a parenthesis are functions, names in lists are labels, the rest are metrics."""
    query = parse(expression)
    assert (query.metrics, query.grouped) == (metrics, grouped)


def test_matches_keep_label_operator_and_value() -> None:
    """Braces in strings and commas at the end do not disturb."""
    query = parse('a{x="}", y=~"b|c",} > 0')
    assert query.selectors == (Selector("a", (Matcher("x", "=", "}"), Matcher("y", "=~", "b|c"))),)


def test_a_name_may_stand_inside_the_braces() -> None:
    """`{__name__="a"}` selects metric a."""
    assert parse('{__name__="a", x!="1"}').selectors == (Selector("a", (Matcher("x", "!=", "1"),)),)


@pytest.mark.parametrize(
    "expression", ["sum(a", "a)", "a{x}", "a{x=1}", "a ! b", 'a{x="1"', '{x="1"}', "sum by (1) (a)"]
)
def test_what_is_not_promql_is_refused(expression: str) -> None:
    """A broken expression is an error and never an empty list of metrics."""
    with pytest.raises(QueryError):
        parse(expression)
