"""The link between a site and the control plane: gRPC over mutual TLS, dialled by the site only."""
