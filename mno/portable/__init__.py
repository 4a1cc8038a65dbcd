"""Models for programs without Python: ONNX files, and FMUs that carry one. An annex."""
