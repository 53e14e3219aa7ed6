"""In which arithmetic scoring computes, and that the answer depends on nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from digitrec.catalog.reader import read_predictions
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.errors import Misconfigured
from digitrec.options import ScoreOptions
from digitrec.scoring import plan as planning
from digitrec.scoring.executors import Execution
from digitrec.scoring.run import score, score_all
from digitrec.settings import Settings
from tests.places import full
from tests.scoring.making import Shape, make_dataset, make_images, make_model, settings_for

NIGHT = ScoreOptions(dataset="night")


def test_each_precision_has_its_own_folder(ready: Store, settings: Settings) -> None:
    """fp32, bf16 and probabilities stand side by side."""
    for options in (NIGHT, ScoreOptions(dataset="night", precision="bf16", probabilities=True)):
        score(ready, options, settings)
    found = sorted(path.name for path in Path(full(ready, "predictions/night")).iterdir())
    assert found == ["quick-00000001.bf16-probabilities", "quick-00000001.fp32"]


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that runs int8 itself, whatever the tests run on."""
    monkeypatch.setattr(planning, "processor_flags", lambda: frozenset({"avx_vnni"}))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("agreement", "precision"), [(0.9999, "int8"), (0.99, "fp32"), (None, "fp32")])
def test_auto_takes_int8_if_it_agrees_with_fp32(
    store: Store, settings: Settings, agreement: float | None, precision: str
) -> None:
    """The folder and the request name what was computed, never `auto`; the report says why."""
    make_model(store, agreement=agreement)
    make_dataset(store, "night", make_images(30))
    report = score(store, NIGHT, settings)
    folder = Path(report.datasets[0].folder)
    assert (report.precision, folder.name) == (precision, f"quick-00000001.{precision}")
    assert json.loads((folder / "manifest.json").read_text())["asked"]["variant"] == precision
    assert report.lines()[0].startswith(f"computed in {precision}: ")


def test_int8_that_the_model_does_not_have_is_refused(ready: Store, settings: Settings) -> None:
    """Asked for in so many words, it is not replaced by something else."""
    with pytest.raises(Misconfigured, match="model quick-00000001 has no int8 engine"):
        score(ready, NIGHT.model_copy(update={"precision": "int8"}), settings)


def test_scoring_in_int8_never_imports_torch(store: Store) -> None:
    """onnxruntime is all it needs: a process starts sooner by the seconds that torch takes."""
    make_model(store, agreement=1)
    make_dataset(store, "night", make_images(30))
    code = f"""
import sys
from digitrec.options import ScoreOptions
from digitrec.scoring.run import score
from digitrec.settings import Settings
from digitrec.catalog.store import Store
(scored,) = score(Store.at({store.url!r}), ScoreOptions(precision="int8"), Settings(threads=1)).datasets
print(scored.rows, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["30", "False"]
    assert done.stderr == ""


cuts = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=4), min_size=1, max_size=4)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0)])
@hypothesis_settings(max_examples=4, deadline=None)
@given(cut=cuts, partition_rows=st.integers(1, 200), cascade=st.booleans())
def test_predictions_do_not_depend_on_the_cut(
    precision: Arithmetic,
    tolerance: float,
    cut: list[list[int]],
    partition_rows: int,
    cascade: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """However a dataset is cut into shards, row groups and partitions, and on however many cores: the same labels,
    confidences within 1e-5 (in int8 the same), from the same net of a cascade; and for the same plan the parts are the
    same, byte for byte."""
    shape = Shape(tuple(tuple(groups) for groups in cut))
    images = make_images(1000)[: shape.rows]
    frames, parts = [], []
    for shape_now, rows, cores in (
        (Shape(((shape.rows,),)), 10_000, 1),
        (shape, partition_rows, 1),
        (shape, partition_rows, 2),
    ):
        torch.set_num_threads(cores)
        store = Store.at(tmp_path_factory.mktemp("store"))
        make_model(store, agreement=1, threshold=0.8)
        make_dataset(store, "night", images, shape_now)
        options = ScoreOptions(dataset="night", precision=precision, cascade=cascade)
        (scored,) = score_all(store, options, settings_for(store), Execution(partition_rows=rows)).datasets
        frames.append(read_predictions(scored.folder))
        parts.append([path.name for path in sorted(Path(scored.folder).glob("part-*"))])
    for column in ("label", "net") if cascade else ("label",):
        assert frames[0][column].equals(frames[1][column])
    assert np.allclose(frames[0]["confidence"], frames[1]["confidence"], rtol=0, atol=tolerance)
    assert parts[1] == parts[2]
