# Generated from bpcore.h by src/bpcore/bindings/generate_capi.py.

ACTIVATIONS = {
    "identity": IDENTITY,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "softplus": SOFTPLUS,
    "silu": SILU,
    "gelu": GELU,
    "softmax": SOFTMAX,
    "exp": EXP,
}

LOSSES = {
    "squared_error": SQUARED_ERROR,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "cross_entropy": CROSS_ENTROPY,
    "huber": HUBER,
    "absolute_error": ABSOLUTE_ERROR,
    "poisson": POISSON,
    "quantile": QUANTILE,
    "gaussian_nll": GAUSSIAN_NLL,
    "gamma": GAMMA,
    "tweedie": TWEEDIE,
    "focal": FOCAL,
    "hinge": HINGE,
    "squared_hinge": SQUARED_HINGE,
}
