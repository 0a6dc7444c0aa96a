# Long calls from Python look for signals, such as Ctrl-C, between the panels of a product: after so much work they read
# the clock, and after so much time they take the GIL. A small call does neither.

from cpython.exc cimport PyErr_Occurred

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"() noexcept  # the error stays set until `raise_if_cancelled`

cdef extern from "simd.h" nogil:
    double now "bpcore_now"()
    uint8_t flag "bpcore_flag"(const uint8_t *p)
    void set_flag "bpcore_set_flag"(uint8_t *p)
    ctypedef unsigned long long float_mode_t "bpcore_float_mode"
    float_mode_t flush_subnormals "bpcore_flush_subnormals"()
    enum:
        FLUSHES "BPCORE_FLUSHES"
    void restore_float_mode "bpcore_restore_float_mode"(float_mode_t caller)
    double pinned "bpcore_pinned"(double x)

cdef enum:
    POLL_WORK = 16777216            # multiplications: half a millisecond to a few milliseconds
    WORK_PER_COPIED_NUMBER = 64     # multiplications in the time that copying a number takes

cdef double POLL_SECONDS = 0.05

cdef struct interrupt_t:
    Py_ssize_t work_left            # multiplications until the clock is read
    double next_poll                # when signals are looked for
    const void *cancelled           # a byte that another thread sets to cancel the call, or NULL
    float_mode_t caller_mode        # what a signal's handler computes in
    bint stopped


cdef inline interrupt_t new_interrupt(const uint8_t[::1] cancelled) noexcept:
    """For one call; ``cancelled`` may be None, and is kept alive by the caller."""
    cdef interrupt_t interrupt
    interrupt.work_left, interrupt.next_poll, interrupt.stopped = POLL_WORK, 0, False
    interrupt.caller_mode = 0  # `new_context` sets it, before anything polls
    interrupt.cancelled = &cancelled[0] if cancelled is not None and cancelled.shape[0] > 0 else NULL
    return interrupt


cdef void poll(interrupt_t *interrupt) noexcept nogil:
    cdef double time = now()
    interrupt.work_left = POLL_WORK
    if interrupt.cancelled != NULL and flag(<const uint8_t *>interrupt.cancelled) != 0:
        interrupt.stopped = True
    elif interrupt.next_poll == 0:
        interrupt.next_poll = time + POLL_SECONDS
    elif time >= interrupt.next_poll:
        interrupt.next_poll = time + POLL_SECONDS
        with gil:
            restore_float_mode(interrupt.caller_mode)
            interrupt.stopped = check_signals() != 0
            flush_subnormals()


cdef inline bint should_stop(interrupt_t *interrupt, Py_ssize_t work) noexcept nogil:
    """Whether to leave the loops, ``work`` multiplications after the last call; never if ``interrupt`` is NULL.

    What the loops have written by then is meaningless.
    """
    if interrupt == NULL:
        return False
    interrupt.work_left -= work
    if interrupt.work_left < 0 and not interrupt.stopped:
        poll(interrupt)
    return interrupt.stopped


def cancel(uint8_t[::1] cancelled not None):
    """Have the calls that were given ``cancelled`` return soon."""
    if cancelled.shape[0] > 0:
        set_flag(&cancelled[0])


cdef inline int raise_if_cancelled(interrupt_t *interrupt) except -1:
    """Raise what stopped the loops, if anything did."""
    if not interrupt.stopped:
        return 0
    if PyErr_Occurred() == NULL:
        raise InterruptedError("the call was cancelled by another thread")
    return -1
