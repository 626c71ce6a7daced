"""The two doors of the control plane: gRPC for sites, REST for people and tools. They parse and answer, no more."""
