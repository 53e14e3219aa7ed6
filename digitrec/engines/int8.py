"""Running an engine in int8, by onnxruntime, on one core. Nothing here imports torch.

All sums are of integers, so an answer is the same to the last bit whatever the batch, the cores or the processor.
"""

from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from digitrec.engines import Network
from digitrec.engines.choice import is_quicker, processor_flags
from digitrec.errors import Misconfigured

ERRORS_ONLY = 3
REFUSALS = (
    states.Fail,
    states.InvalidArgument,
    states.InvalidGraph,
    states.InvalidProtobuf,
    states.NotImplemented,
    states.RuntimeException,
)


def open_int8(engine: bytes, where: str) -> Network:
    """The network that an ONNX file's bytes describe; `where` is named in errors.

    Raises `Misconfigured` if this onnxruntime cannot run it.
    """
    try:
        session = onnxruntime.InferenceSession(engine, settings(), providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        why = " ".join(str(error).split())
        raise Misconfigured(f"onnxruntime {onnxruntime.__version__} cannot run {where}: {why}; upgrade it") from error

    def logits(images: np.ndarray) -> np.ndarray:
        answer: np.ndarray = session.run(["logits"], {"images": images})[0]  # [n, 10]
        return answer

    return logits


def settings() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Without VNNI, products of unsigned by signed bytes are added up in 16 bits, which overflow; what avoids that is
    # exact everywhere, but with VNNI it takes three times as long for the same sums.
    if not is_quicker("int8", processor_flags()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options
