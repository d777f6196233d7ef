"""ONNX graphs: files, walking and rewriting, and edgeft's own operators."""
