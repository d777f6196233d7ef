"""From a torch model folder to a verified ONNX artifact."""
