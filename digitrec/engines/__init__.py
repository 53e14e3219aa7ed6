"""A network as a function of a batch, in fp32, bf16 or int8: made at sealing, run at scoring, known to both stages."""

import os
from collections.abc import Callable
from typing import Final, Literal

import numpy as np

# onnxruntime looks at this when it is imported, which is done below this package, in workers too. Without it,
# it writes a device id into the home folder and reports its use to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Arithmetic = Literal["fp32", "bf16", "int8"]
"""What a network is computed in."""

Network = Callable[[np.ndarray], np.ndarray]
"""uint8 [n, 784] → float32 logits [n, 10]."""

INT8_FILE: Final = "engine-int8.onnx"
"""The large network in int8, in a model version."""
CASCADE_FILE: Final = "cascade-int8.onnx"
"""The small net that answers first in a cascade, in int8, in a model version that has one."""
