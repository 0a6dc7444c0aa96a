# Generated from bpcore.h by src/bpcore/bindings/generate_capi.py.

cdef extern from "bpcore.h":
    ctypedef enum Activation "enum bpcore_activation":
        IDENTITY "BPCORE_IDENTITY"
        SIGMOID "BPCORE_SIGMOID"
        TANH "BPCORE_TANH"
        RELU "BPCORE_RELU"
        LEAKY_RELU "BPCORE_LEAKY_RELU"
        ELU "BPCORE_ELU"
        SOFTPLUS "BPCORE_SOFTPLUS"
        SILU "BPCORE_SILU"
        GELU "BPCORE_GELU"
        SOFTMAX "BPCORE_SOFTMAX"
        EXP "BPCORE_EXP"
    ctypedef enum Loss "enum bpcore_loss":
        SQUARED_ERROR "BPCORE_SQUARED_ERROR"
        BINARY_CROSS_ENTROPY "BPCORE_BINARY_CROSS_ENTROPY"
        CROSS_ENTROPY "BPCORE_CROSS_ENTROPY"
        HUBER "BPCORE_HUBER"
        ABSOLUTE_ERROR "BPCORE_ABSOLUTE_ERROR"
        POISSON "BPCORE_POISSON"
        QUANTILE "BPCORE_QUANTILE"
        GAUSSIAN_NLL "BPCORE_GAUSSIAN_NLL"
        GAMMA "BPCORE_GAMMA"
        TWEEDIE "BPCORE_TWEEDIE"
        FOCAL "BPCORE_FOCAL"
        HINGE "BPCORE_HINGE"
        SQUARED_HINGE "BPCORE_SQUARED_HINGE"

cdef enum:
    N_ACTIVATIONS = 11
    N_LOSSES = 13
