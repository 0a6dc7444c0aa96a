# Guards behind the regions of a workspace, in debug builds and under AddressSanitizer: see guards.h.

cdef extern from "guards.h" nogil:
    enum:
        GUARD_BYTES "BPCORE_GUARD"      # between two regions; 0 but in debug builds
    void close_guard "bpcore_close_guard"(void *p, size_t bytes)
    void open_guard "bpcore_open_guard"(void *p, size_t bytes)
    bint guard_is_intact "bpcore_guard_is_intact"(const void *p, size_t bytes)
    void guard_failed "bpcore_guard_failed"(const char *region, Py_ssize_t layer)


cdef void visit_guards(const plan_t *plan, char *work, Py_ssize_t itemsize, int action) noexcept nogil:
    """Close (0), check (1) or open (2) the guards behind all regions; only in debug builds are there any."""
    cdef Py_ssize_t l, i = 0
    cdef const layer_t *layer
    for l in range(plan.n_layers):
        layer = &plan.layers[l]
        visit_guard(work, &layer.a, layer.derivative.start, itemsize, action, "a", l)
        visit_guard(work, &layer.derivative, layer.forward.start, itemsize, action, "derivative", l)
        visit_guard(work, &layer.forward, layer.backward.start, itemsize, action, "forward", l)
        i = plan.layers[l + 1].a.start if l + 1 < plan.n_layers else plan.delta.start
        visit_guard(work, &layer.backward, i, itemsize, action, "backward", l)
    visit_guard(work, &plan.delta, plan.scratch.start, itemsize, action, "delta", -1)
    visit_guard(work, &plan.scratch, plan.panels.start, itemsize, action, "scratch", -1)
    visit_guard(work, &plan.panels, plan.columns.start, itemsize, action, "panels", -1)
    visit_guard(work, &plan.columns, plan.inputs.start, itemsize, action, "columns", -1)
    visit_guard(work, &plan.inputs, plan.targets.start, itemsize, action, "inputs", -1)
    visit_guard(work, &plan.targets, plan.output_weight.start, itemsize, action, "targets", -1)
    visit_guard(work, &plan.output_weight, plan.labels.start, itemsize, action, "output_weight", -1)
    visit_guard(work, &plan.labels, plan.sample_weight.start, itemsize, action, "labels", -1)
    visit_guard(work, &plan.sample_weight, plan.norms.start, itemsize, action, "sample_weight", -1)
    visit_guard(work, &plan.norms, plan.heads_block.start, itemsize, action, "norms", -1)
    visit_guard(work, &plan.heads_block, plan.workspace, itemsize, action, "heads_block", -1)


cdef inline void visit_guard(char *work, const region_t *region, Py_ssize_t next_start, Py_ssize_t itemsize, int action,
                             const char *name, Py_ssize_t layer) noexcept nogil:
    cdef char *guard = work + (region.start + region.size) * itemsize
    cdef size_t size = <size_t>(next_start - region.start - region.size) * <size_t>itemsize
    if action == 0:
        close_guard(guard, size)
    elif action == 2:
        open_guard(guard, size)
    elif not guard_is_intact(guard, size):
        guard_failed(name, layer)


cdef inline void close_guards(const plan_t *plan, floating *work) noexcept nogil:
    """Before a workspace is used for the first time."""
    if GUARD_BYTES > 0:
        visit_guards(plan, <char *>work, sizeof(floating), 0)


cdef inline void check_guards(const plan_t *plan, floating *work) noexcept nogil:
    """After every tile: abort where a loop has written behind its region."""
    if GUARD_BYTES > 0:
        visit_guards(plan, <char *>work, sizeof(floating), 1)


cdef inline void open_guards(const plan_t *plan, floating *work) noexcept nogil:
    """Before the memory of a workspace is freed."""
    if GUARD_BYTES > 0:
        visit_guards(plan, <char *>work, sizeof(floating), 2)
