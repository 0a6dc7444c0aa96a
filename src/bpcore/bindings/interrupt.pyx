# Long calls from Python look for signals, such as Ctrl-C, between the panels of a product: after so much work they read
# the clock, and after so much time they take the GIL. A small call does neither.

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"() noexcept  # the error stays set until `raise_if_interrupted`

cdef extern from "simd.h" nogil:
    double now "bpcore_now"()
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
    # Of one thread. The first of a call polls; the others hear of it from the team.
    Py_ssize_t work_left            # multiplications until the clock is read
    double next_poll                # when signals are looked for
    team_t *team                    # NULL if it is the only thread
    bint polls
    float_mode_t caller_mode        # what a signal's handler computes in
    bint stopped


cdef inline interrupt_t new_interrupt(team_t *team, bint polls) noexcept nogil:
    """For one thread of a call."""
    cdef interrupt_t interrupt
    interrupt.work_left, interrupt.next_poll, interrupt.stopped = POLL_WORK, 0, False
    interrupt.caller_mode = 0  # `new_context` sets it, before anything polls
    interrupt.team, interrupt.polls = team, polls
    return interrupt


cdef void poll(interrupt_t *interrupt) noexcept nogil:
    cdef double time
    interrupt.work_left = POLL_WORK
    if not interrupt.polls:
        interrupt.stopped = team_stopped(interrupt.team)
        return
    time = now()
    if interrupt.next_poll == 0:
        interrupt.next_poll = time + POLL_SECONDS
    elif time >= interrupt.next_poll:
        interrupt.next_poll = time + POLL_SECONDS
        with gil:
            restore_float_mode(interrupt.caller_mode)
            interrupt.stopped = check_signals() != 0
            flush_subnormals()
        if interrupt.stopped and interrupt.team != NULL:
            team_stop(interrupt.team)


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


cdef inline int raise_if_interrupted(const interrupt_t *interrupt) except -1:
    """Raise what stopped the loops, if anything did."""
    return -1 if interrupt.stopped else 0
