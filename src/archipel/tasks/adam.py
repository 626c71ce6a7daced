"""Adam's constants, the same by every framework: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
