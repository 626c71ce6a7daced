"""An example of differential privacy over a simulated population."""
