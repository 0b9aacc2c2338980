"""Text as the standard library writes it, only sooner."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.json_text import Writer

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=VALUES, sort_keys=st.booleans())
def test_the_text_is_that_of_the_standard_library(value, sort_keys):
    wanted = json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)
    writer = Writer(sort_keys=sort_keys)
    assert writer.encode(value) == wanted
    assert writer.encode(value) == wanted  # nothing is left from the first


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"a": [math.nan]}])
def test_what_is_no_number_is_not_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Writer().encode(value)


@pytest.mark.parametrize("value", [object(), {"a": b"bytes"}, {("a", "b"): 1}])
def test_what_has_no_json_form_is_not_written(value):
    with pytest.raises(TypeError):
        Writer().encode(value)


def test_what_holds_itself_comes_to_an_end():
    value: list[object] = []
    value.append(value)
    with pytest.raises(RecursionError):
        Writer().encode(value)
