"""From a bundle's folder to an adapter: siblings, strangers, and the user's mistakes told by file and line."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from tasks_benches import STATISTICS, Clouds, a_job, site_data

from archipel.spec import MissingExtraError, NonFiniteError, ShapeError, TaskError
from archipel.tasks.conformance import plan
from archipel.tasks.load import gather_statistics, load_object, load_task, open_adapter
from archipel.tasks.threads import settle_threads

TASK = """
from archipel.tasks.numpy import NumpyTask, Network, Split
import numpy as np

class Birds(NumpyTask):
    classes = ("a", "b")
    features = ("x",)
    label = "y"

    def __init__(self, rows=4):
        self.rows = rows

    def statistics(self, site):
        return {}

    def read(self, site, statistics):
        samples = {"x": np.arange(self.rows) * 1.0, "y": np.arange(self.rows) % 2}
        return Split(train=samples, test=samples)
"""


def folder_of(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def adapter_of(tmp_path, text, **options):
    task = load_task(folder_of(tmp_path, task=text), "task.py:Birds", options)
    return open_adapter(a_job(), task, site_data(), {})


def test_a_task_is_loaded_with_its_options(tmp_path):
    task = load_task(folder_of(tmp_path, task=TASK), "task.py:Birds", {"rows": 7})
    assert len(task.read(site_data(), {}).train["x"]) == 7
    adapter = open_adapter(a_job(), task, site_data(), {})
    assert adapter.evaluate(adapter.initial(0))["classification.examples"] == 7


@pytest.mark.parametrize(
    "line", ["from .near import NUMBER", "from near import NUMBER", "import near\nNUMBER = near.NUMBER"]
)
def test_a_file_reaches_its_siblings(tmp_path, line):
    text = f"{line}\nclass Birds:\n    def read(self, s, t): return NUMBER\n    def statistics(self, s): return {{}}\n"
    task = load_task(folder_of(tmp_path, task=text, near="NUMBER = 5\n"), "task.py:Birds", {})
    assert task.read(None, {}) == 5
    assert "near" not in sys.modules
    assert str(tmp_path) not in sys.path
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_bundles_do_not_see_each_others_modules(tmp_path):
    text = (
        "from near import N\nclass Birds:\n    n = N\n    def read(self, s, t): ...\n    def statistics(self, s): ...\n"
    )
    numbers = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        numbers.append(load_task(folder_of(folder, task=text, near=f"N = {number}\n"), "task.py:Birds", {}).n)
    assert numbers == [1, 2]


def test_a_task_may_stand_in_a_subfolder(tmp_path):
    (tmp_path / "lib").mkdir()
    folder_of(tmp_path / "lib", task=TASK)
    assert load_task(tmp_path, "lib/task.py:Birds", {}).rows == 4


@dataclass
class Mistake:
    name: str
    text: str
    message: str
    entry: str = "task.py:Birds"
    options: dict = field(default_factory=dict)


def with_line(line: str) -> str:
    return TASK.replace('    label = "y"\n', f'    label = "y"\n    {line}\n')


LOAD_MISTAKES = [
    Mistake("no file", TASK, "no file 'tusk.py'", entry="tusk.py:Birds"),
    Mistake("outside", TASK, "no file '../task.py'", entry="../task.py:Birds"),
    Mistake("no class", TASK, "task.py has no 'Bird'", entry="task.py:Bird"),
    Mistake("no task", TASK + "x = 5\n", "x is not a class", entry="task.py:x"),
    Mistake("no methods", "class Birds: pass\n", "no method 'statistics'"),
    Mistake("syntax", TASK + "def broken(:\n", "task.py:19: SyntaxError"),
    Mistake("indent", "class Birds:\nx = 1\n", "task.py:2: IndentationError"),
    Mistake("import", "import nothing_of_this_name\n", "task.py:1, in import: ModuleNotFoundError"),
    Mistake("raises", "x = 1\ny = 1 / 0\n", "task.py:2, in import: ZeroDivisionError"),
    Mistake("exits", "import sys\nsys.exit('bye')\n", "task.py:2, in import: SystemExit: bye"),
    Mistake("constructor", with_line("def __new__(cls): raise ValueError('no')"), "task.py:9, in Birds(options)"),
    Mistake("option", TASK, "unexpected keyword argument 'colour'", options={"colour": 1}),
]


@pytest.mark.parametrize("mistake", LOAD_MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_in_loading_is_told_by_place(tmp_path, mistake):
    with pytest.raises(TaskError) as caught:
        load_task(folder_of(tmp_path, task=mistake.text), mistake.entry, mistake.options)
    assert mistake.message in caught.value.message
    assert caught.value.hint


def test_a_mistake_in_a_sibling_names_the_sibling(tmp_path):
    with pytest.raises(TaskError, match=r"near\.py:1, in import: NameError"):
        load_task(folder_of(tmp_path, task="from .near import x\n", near="x = y\n"), "task.py:Birds", {})


def test_the_nearest_name_is_offered(tmp_path):
    with pytest.raises(TaskError) as caught:
        load_object(folder_of(tmp_path, task=TASK), "task.py", "Brids")
    assert "'Birds'" in caught.value.hint


def test_a_mended_file_can_be_loaded_after_a_broken_one(tmp_path):
    for name, text in (("one", "x = 1 / 0\n"), ("two", TASK)):
        (tmp_path / name).mkdir()
        folder_of(tmp_path / name, task=text)
    with pytest.raises(TaskError):
        load_task(tmp_path / "one", "task.py:Birds", {})
    assert load_task(tmp_path / "two", "task.py:Birds", {}).rows == 4


def read_line(body: str) -> str:
    return TASK.replace("        return Split(train=samples, test=samples)", f"        {body}")


USE_MISTAKES = [
    Mistake("read raises", read_line("raise KeyError('x')"), "task.py:18, in read: KeyError"),
    Mistake("read deep", read_line("return np.zeros(3).reshape(2, 2)"), "task.py:18, in read: ValueError"),
    Mistake("read returns", read_line("return samples"), "read() returned dict"),
    Mistake("lists", read_line("return Split(train={'x': [1]}, test={})"), "not a numpy array"),
    Mistake("empty", read_line("return Split(train={}, test=samples)"), "train part of read()"),
    Mistake(
        "lengths",
        read_line("return Split(train=samples, test={'x': np.zeros(3), 'y': np.zeros(4, int)})"),
        "'y' of the test part has 4 rows, 'x' has 3",
    ),
    Mistake("no feature", read_line("return Split(train={'y': samples['y']}, test=samples)"), "read() gives no 'x'"),
    Mistake("no label", read_line("return Split(train={'x': samples['x']}, test=samples)"), "no label 'y'"),
    Mistake(
        "label text",
        read_line("return Split(train={'x': samples['x'], 'y': samples['x'].astype(str)}, test=samples)"),
        "the label is <U",
    ),
    Mistake(
        "label outside",
        read_line("return Split(train={'x': samples['x'], 'y': samples['y'] + 1}, test=samples)"),
        "outside the network's 2 classes",
    ),
    Mistake(
        "feature text",
        read_line("return Split(train={'x': np.array(['SECRET'] * 4), 'y': samples['y']}, test=samples)"),
        "feature 'x' is <U6",
    ),
    Mistake("model raises", with_line("def model(self, s): return 1 / 0"), "task.py:9, in model: ZeroDivisionError"),
    Mistake("model returns", with_line("def model(self, s): return None"), "model() returned NoneType"),
    Mistake("outputs", with_line("def model(self, s): return Network(inputs=1, outputs=3)"), "3 outputs for 2 classes"),
    Mistake("inputs", with_line("def model(self, s): return Network(inputs=2, outputs=2)"), "1 columns, the network 2"),
    Mistake(
        "mean",
        with_line("def model(self, s): return Network(inputs=1, outputs=2, mean=np.zeros(3))"),
        "mean has shape (3,)",
    ),
    Mistake(
        "activation",
        with_line("def model(self, s): return Network(inputs=1, outputs=2, activation='gelu')"),
        "activation 'gelu'",
    ),
    Mistake("widths", with_line("def model(self, s): return Network(inputs=1, hidden=(0,), outputs=2)"), "widths"),
]


@pytest.mark.parametrize("mistake", USE_MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_in_use_is_told_by_place(tmp_path, mistake):
    adapter = adapter_of(tmp_path, mistake.text)
    with pytest.raises(TaskError) as caught:
        adapter.train(adapter.initial(0), plan(), lambda _: None)
    assert mistake.message in caught.value.message
    assert "SECRET" not in caught.value.message
    assert caught.value.hint


def test_a_part_nobody_knows_and_a_part_not_given_are_refused(tmp_path):
    adapter = adapter_of(tmp_path, TASK)
    with pytest.raises(TaskError, match="no part 'tset'"):
        adapter.evaluate(adapter.initial(0), "tset")
    with pytest.raises(TaskError, match="no validation rows"):
        adapter.evaluate(adapter.initial(0), "validation")


def test_statistics_come_as_float64(tmp_path):
    text = with_line("def statistics(self, site): return {'n': 4, 'sum': np.arange(3)}").replace(
        "return {}", "return 1"
    )
    task = load_task(
        folder_of(tmp_path, task=text.replace("def statistics(self, site):\n", "def other(self):\n")),
        "task.py:Birds",
        {},
    )
    sums = gather_statistics(task, site_data())
    assert {name: (value.dtype, value.tolist()) for name, value in sums.items()} == {
        "n": (np.float64, 4.0),
        "sum": (np.float64, [0.0, 1.0, 2.0]),
    }


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ("None", ShapeError, "must return a mapping"),
        ("{'a': float('nan')}", NonFiniteError, "statistic 'a'"),
        ("{'a': 'text'}", TaskError, "statistics \\(a\\)"),
        ("1 / 0", TaskError, "task.py:14, in statistics: ZeroDivisionError"),
    ],
)
def test_bad_statistics_are_refused(tmp_path, returned, error, message):
    task = load_task(folder_of(tmp_path, task=TASK.replace("return {}", f"return {returned}")), "task.py:Birds", {})
    with pytest.raises(error, match=message):
        gather_statistics(task, site_data())


def test_statistics_and_reading_draw_the_same_split():
    class Drawing(Clouds):
        def read(self, site, statistics):
            self.train = np.random.permutation(60)[:30]  # noqa: NPY002
            return super().read(site, statistics)

    task = Drawing()
    gather_statistics(task, site_data())
    drawn = task.train
    adapter = open_adapter(a_job(), task, site_data(), STATISTICS)
    adapter.evaluate(adapter.initial(0))
    assert task.train.tolist() == drawn.tolist()


def test_the_operators_interrupt_is_not_the_tasks_error(tmp_path):
    adapter = adapter_of(tmp_path, read_line("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        adapter.evaluate(adapter.initial(0))


def test_an_error_of_the_listener_is_not_the_tasks_error(tmp_path):
    adapter = adapter_of(tmp_path, TASK)

    def cancel(_):
        raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        adapter.train(adapter.initial(0), plan(), cancel)


def test_a_task_of_the_wrong_base_is_refused():
    class Bare:
        def read(self, site, statistics): ...
        def statistics(self, site): ...

    with pytest.raises(TaskError, match="Bare is no NumpyTask"):
        open_adapter(a_job(), Bare(), site_data(), {})


@pytest.mark.parametrize(("framework", "called"), [("torch", "PyTorch"), ("jax", "JAX")])
def test_a_missing_framework_says_what_to_install(monkeypatch, framework, called):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        open_adapter(a_job(framework), Clouds(), site_data(), {})
    assert f".[{framework}]" in caught.value.hint
    with pytest.raises(MissingExtraError, match=called):
        settle_threads(framework)
