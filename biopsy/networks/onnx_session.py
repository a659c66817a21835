"""The one door to ONNX Runtime: silent, also towards its maker; without Keras."""

import os
from typing import Any

from biopsy.core.extras import extra

# From 1.32 on it writes a device id into the user's cache and reports to its maker, unless told not to beforehand.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def open_session(content: bytes, threads: int = 0) -> Any:
    """Load an ONNX file for the processor.

    Parameters
    ----------
    content
        Its bytes.
    threads
        Of one run; 0: one a core.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    MachineError
        ONNX Runtime is not installed.
    Exception
        Classes of ONNX Runtime's own, one a kind of fault.
    """
    with extra("predict"):
        import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is said in our words
    options.intra_op_num_threads = threads
    # Its threads would wait for work in a loop, on cores where others decode; one image alone takes a tenth longer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights beside the file would be found in the current folder alone, and no hash would depend on them.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
