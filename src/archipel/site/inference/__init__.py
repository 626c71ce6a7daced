"""Answer questions at the site: the Open Inference Protocol v2 (REST) on loopback, with onnxruntime."""
