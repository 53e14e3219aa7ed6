"""What Prefect's form asks for, and what it refuses. No server is needed."""

from typing import Any

import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError

Flows = dict[str, Flow[..., Any]]

PARAMETERS = {
    "ingest": ["sources", "options", "store"],
    "train": ["options", "store"],
    "score": ["sources", "options", "store", "dask", "insecure", "limits", "reading"],
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_field_of_the_form_is_described(flows: Flows, name: str) -> None:
    """Each parameter of a flow, and each field of its options, has words that say what it is."""
    schema = flows[name].parameters.model_dump()
    assert list(schema["properties"]) == PARAMETERS[name]
    fields = {name: facts for name, facts in schema["properties"].items() if name not in schema_names(schema)}
    for options in schema["definitions"].values():
        fields |= options["properties"]
    undescribed = [field for field, facts in fields.items() if not facts.get("description")]
    assert undescribed == []


def schema_names(schema: dict[str, Any]) -> set[str]:
    """The parameters that are groups of fields: the fields are described, and the group by its own words."""
    return {name for name, facts in schema["properties"].items() if "$ref" in str(facts)}


@pytest.mark.parametrize("name", PARAMETERS)
def test_only_what_cannot_be_guessed_is_required(flows: Flows, name: str) -> None:
    """`train` and `score` run with an empty form; `ingest` needs its sources."""
    assert flows[name].parameters.required == (["sources"] if name == "ingest" else [])


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_unknown_option_is_refused(flows: Flows, name: str) -> None:
    """A key that no option has is refused by the form's schema, and by the flow itself."""
    flow = flows[name]
    definitions = flow.parameters.model_dump()["definitions"].values()
    assert {options["additionalProperties"] for options in definitions} == {False}
    with pytest.raises(ParameterTypeError, match="no_such_option"):
        flow.validate_parameters(
            {"sources": [], "options": {"no_such_option": 1}}
            if "sources" in PARAMETERS[name]
            else {"options": {"no_such_option": 1}}
        )


def test_a_value_out_of_bounds_is_refused(flows: Flows) -> None:
    """Bounds and choices are those of the command line."""
    with pytest.raises(ParameterTypeError, match="preset"):
        flows["train"].validate_parameters({"options": {"preset": "slow"}})
    with pytest.raises(ParameterTypeError, match="unsure_below"):
        flows["score"].validate_parameters({"options": {"unsure_below": 2}})


def test_the_flows_are_named_after_their_stages(flows: Flows) -> None:
    """`prefect deployment run train/default` finds a flow of that name."""
    assert [flow.name for flow in flows.values()] == ["ingest", "train", "score"]
