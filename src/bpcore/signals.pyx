# Calls from Python that go on for long look for signals, such as Ctrl-C, between the panels of a product: by their work
# they know when to look at the clock, and by the clock when to take the GIL. A small call does neither.

from cpython.exc cimport PyErr_Occurred

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"() noexcept  # the error stays with the thread until `heed` finds it

cdef extern from "simd.h" nogil:
    double now "bpcore_now"()
    unsigned char flag "bpcore_flag"(const unsigned char *p)
    void set_flag "bpcore_set_flag"(unsigned char *p)

cdef enum:
    LOOK_AFTER = 16777216           # multiplications: from half a millisecond to some

    PER_MOVE = 64                   # multiplications in the time that a number takes from memory and to it

cdef double LOOK_EVERY = 0.05       # seconds

cdef struct watch_t:
    Py_ssize_t left                 # multiplications until the clock is looked at
    double next                     # when signals are looked for
    const unsigned char *cancelled  # if not NULL, where another thread says that all is over
    bint stopped


cdef inline watch_t new_watch(const unsigned char[::1] cancelled) noexcept:
    """A watch for one call; ``cancelled`` may be None, and is kept by the caller."""
    cdef watch_t watch
    watch.left, watch.next, watch.stopped = LOOK_AFTER, 0, False
    watch.cancelled = &cancelled[0] if cancelled is not None and cancelled.shape[0] > 0 else NULL
    return watch


cdef void look(watch_t *watch) noexcept nogil:
    cdef double time = now()
    watch.left = LOOK_AFTER
    if watch.cancelled != NULL and flag(watch.cancelled) != 0:
        watch.stopped = True
    elif watch.next == 0:
        watch.next = time + LOOK_EVERY
    elif time >= watch.next:
        watch.next = time + LOOK_EVERY
        with gil:
            watch.stopped = check_signals() != 0


cdef inline bint stopped(watch_t *watch, Py_ssize_t work) noexcept nogil:
    """Whether to leave the loops, ``work`` multiplications after the last look; never if ``watch`` is NULL.

    What the loops have written by then is of no use.
    """
    if watch == NULL:
        return False
    watch.left -= work
    if watch.left < 0 and not watch.stopped:
        look(watch)
    return watch.stopped


def cancel(unsigned char[::1] cancelled not None):
    """Have calls that were given ``cancelled`` end soon."""
    if cancelled.shape[0] > 0:
        set_flag(&cancelled[0])


cdef inline int heed(watch_t *watch) except -1:
    """Raise what stopped the loops, if anything did."""
    if not watch.stopped:
        return 0
    if PyErr_Occurred() == NULL:
        raise InterruptedError("another thread has ended the call")
    return -1
