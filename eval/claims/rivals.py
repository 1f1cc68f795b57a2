"""What the paper's tables 1 and 2 say of the method beside others, and all groups of claims by name.

Which metrics decide follows from the printed numbers: those that are better than the other method's. One that
is printed equal must not be worse, and one that is not printed decides nothing.
"""

from collections.abc import Mapping

from mvtokenflow.base.files import choose
from mvtokenflow.baselines.published import PUBLISHED
from mvtokenflow.eval.claims.generated import GENERATED_CLAIMS
from mvtokenflow.eval.claims.specs import CLAIMS, PRINTED, RIVAL_MEASURES, Claim

OURS = "MVTokenFlow"  # in the paper's tables
_SAYS = {
    "table1": "The result agrees better with the input video than that of {label}; so do its views, with "
    "one another.",
    "table2": "Novel views are nearer to the truth than those of {label}, frame by frame and as videos.",
}
_VIEWS = {"table1": "input view", "table2": "novel views"}


def _claim(row: str, label: str, table: str) -> Claim:
    """Build what a table of the paper says of the method beside another."""
    primary: list[str] = []
    guards: list[str] = []
    clauses = []
    for key, metric in PRINTED[table].items():
        printed = {n.method: n.printed for n in PUBLISHED if (n.table, n.metric) == (table, metric)}
        if label not in printed:
            continue
        column = RIVAL_MEASURES[key].column
        gain = float(printed[OURS]) - float(printed[label])
        gain = gain if column.better == "higher" else -gain
        if gain >= 0:
            (primary if gain > 0 else guards).append(key)
        clauses.append(f"{column.title.split(' of ')[0]} {printed[OURS]} against {printed[label]}")
    return Claim(
        key=f"{row}-{_VIEWS[table].replace(' ', '-')}",
        title=f"Beside {label}: {_VIEWS[table]}",
        says=_SAYS[table].format(label=label),
        where=f"section 4.2; table {table[-1]} ({', '.join(clauses)})",
        part=label,
        against=row,
        primary=tuple(primary),
        guards=tuple(guards),
        printed=label,
        printed_in=table,
        rival=True,
    )


RIVAL_CLAIMS: Mapping[str, Claim] = {
    claim.key: claim
    for claim in (
        _claim("consistent4d", "Consistent4D", "table1"),
        _claim("consistent4d", "Consistent4D", "table2"),
        _claim("sc4d", "SC4D", "table1"),
        _claim("sc4d", "SC4D", "table2"),
        _claim("stag4d", "STAG4D", "table1"),
        _claim("stag4d", "STAG4D", "table2"),
        _claim("dg4d", "DG4D", "table2"),
    )
}

GROUPS: Mapping[str, Mapping[str, Claim]] = {
    "ablations": CLAIMS,
    "rivals": RIVAL_CLAIMS,
    "generated": GENERATED_CLAIMS,
    "all": {**CLAIMS, **RIVAL_CLAIMS},
}


def claim_named(key: str) -> Claim:
    """Return a claim by key; a ConfigError suggests the nearest one."""
    return choose("claim", key, {**GROUPS["all"], **GENERATED_CLAIMS})
