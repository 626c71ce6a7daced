"""Asking a site's endpoint: names, types and shapes come from the endpoint, and a wrong question is told apart."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.cli.asking import _flat, _shape_of, ask, in_words
from archipel.spec import LinkError, SpecError, UnknownNameError

INPUTS = [
    {"name": "bill", "datatype": "FP32", "shape": [-1]},
    {"name": "mass", "datatype": "FP32", "shape": [-1, 1]},
]
OUTPUT = {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}


class Endpoint(BaseHTTPRequestHandler):
    """A model `birds` with two inputs; keeps what it is asked."""

    asked: list[Any]

    def do_GET(self) -> None:
        known = self.path == "/v2/models/birds"
        self._say(200 if known else 404, {"inputs": INPUTS} if known else {"error": "not served here"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(body)
        self._say(200, {"outputs": [OUTPUT]})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    Endpoint.asked = []
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_question_gets_its_types_and_shapes_from_the_endpoint(endpoint: str) -> None:
    answer = ask(endpoint, "birds", {"bill": [39.1], "mass": [3750]})
    assert in_words(answer) == "probabilities 0.250, 0.750"
    assert Endpoint.asked == [
        {
            "inputs": [
                {"name": "bill", "datatype": "FP32", "shape": [1], "data": [39.1]},
                {"name": "mass", "datatype": "FP32", "shape": [1, 1], "data": [3750]},
            ]
        }
    ]


def test_a_sentence_of_as_many_words_as_there_are_tags_is_no_row_of_scores() -> None:
    tags = {"class": ["B", "O"], "classes": ["O", "B"]}
    answer = {"outputs": [{"name": "tags", "datatype": "INT64", "shape": [1, 2], "data": [1, 0], "parameters": tags}]}
    assert in_words(answer) == "B, O; tags 1, 0"


def test_an_unknown_input_names_the_nearest(endpoint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        ask(endpoint, "birds", {"bil": [1.0], "mass": [2]})
    assert "'bill'" in caught.value.hint


def test_a_missing_input_is_named(endpoint: str) -> None:
    with pytest.raises(SpecError, match="also needs mass"):
        ask(endpoint, "birds", {"bill": [1.0]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_question_with_a_number_that_json_cannot_carry_is_refused(endpoint: str, value: float) -> None:
    with pytest.raises(SpecError, match="mass of the question") as caught:
        ask(endpoint, "birds", {"bill": [39.1], "mass": [[value]]})
    assert caught.value.hint
    assert Endpoint.asked == []


def test_a_model_that_is_not_served_is_told(endpoint: str) -> None:
    with pytest.raises(SpecError, match="not served here"):
        ask(endpoint, "fish", {"bill": [1.0]})


def test_an_endpoint_that_is_away_is_a_link_error() -> None:
    with pytest.raises(LinkError, match="no endpoint answers"):
        ask("http://127.0.0.1:1", "birds", {"bill": [1.0]})


def test_labels_come_before_numbers_and_only_the_first_row_is_shown() -> None:
    label = {"name": "species", "datatype": "BYTES", "shape": [2], "data": ["auk", "tern"]}
    both = {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [[0.1, 0.9], [0.5, 0.5]]}
    assert in_words({"outputs": [both, label]}) == "species auk; p 0.100, 0.900"


def test_named_classes_are_said_beside_their_scores_and_the_first_rows_own_before_all() -> None:
    names = {"classes": ["auk", "tern"], "class": ["tern", "auk"]}
    both = {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [0.1, 0.9, 0.5, 0.5], "parameters": names}
    assert in_words({"outputs": [both]}) == "tern; p auk 0.100, tern 0.900"
    numbers = {"name": "tags", "datatype": "INT64", "shape": [1, 3], "data": [1, 0, 1]}
    numbers["parameters"] = {"classes": ["O", "B-PER"], "class": ["B-PER", "O", "B-PER"]}
    assert in_words({"outputs": [numbers]}) == "B-PER, O, B-PER; tags 1, 0, 1"


@given(st.integers(1, 4), st.integers(1, 4))
def test_a_shape_and_the_flat_values_agree(rows: int, columns: int) -> None:
    value = [[row * columns + column for column in range(columns)] for row in range(rows)]
    assert _shape_of(value) == [rows, columns]
    assert _flat(value) == list(range(rows * columns))
