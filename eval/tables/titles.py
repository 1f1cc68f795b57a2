"""The title of each table, which is also the help of its command."""

from collections.abc import Mapping
from types import MappingProxyType

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "table1": "Agreement with the input video, consistency between views and over time",
        "table2": "Novel views against ground truth",
        "table3": "Ablation",
        "table4": "Cost",
    }
)
