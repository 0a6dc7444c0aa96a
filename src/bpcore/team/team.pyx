# The threads of a call, and what each of them computes.
#
# All threads run the same loops over the same tile, each for its share of every product: of its columns where there are
# many, else of its rows. So every number is made by one thread, in the order in which one thread alone would make it,
# and the bits are the same for any number of threads.

cdef extern from "team.h" nogil:
    enum:
        MAX_TEAM "BPCORE_MAX_TEAM"      # threads of a call, at most
    ctypedef struct team_t "bpcore_team":
        int size
    ctypedef void (*work_t "bpcore_work")(void *call, int rank) noexcept nogil
    void team_run "bpcore_team_run"(team_t *team, int size, work_t work, void *call)
    bint team_wait "bpcore_team_wait"(team_t *team)
    void team_stop "bpcore_team_stop"(team_t *team)
    bint team_stopped "bpcore_team_stopped"(team_t *team)
    int take_piece "bpcore_team_take"(team_t *team)
    bint await_turn "bpcore_team_await_turn"(team_t *team, int piece)
    void pass_turn "bpcore_team_pass_turn"(team_t *team)
    void reset_turns "bpcore_team_reset_turns"(team_t *team)

cdef struct share_t:
    # What a thread computes of a matrix.
    Py_ssize_t row
    Py_ssize_t rows
    Py_ssize_t column
    Py_ssize_t columns


cdef inline Py_ssize_t share_start(Py_ssize_t n, Py_ssize_t unit, int size, int rank) noexcept nogil:
    """Where the share of a thread begins, of n numbers shared among ``size`` threads in whole units."""
    return min((n + unit - 1) // unit * rank // size * unit, n)


cdef inline share_t all_of(Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef share_t share
    share.row, share.rows, share.column, share.columns = 0, rows, 0, columns
    return share


cdef inline share_t row_share(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t unit, int size, int rank) noexcept nogil:
    """All columns of some rows."""
    cdef share_t share
    share.row, share.column, share.columns = share_start(rows, unit, size, rank), 0, columns
    share.rows = share_start(rows, unit, size, rank + 1) - share.row
    return share


cdef inline share_t column_share(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t unit, int size,
                                 int rank) noexcept nogil:
    """All rows of some columns."""
    cdef share_t share
    share.column, share.row, share.rows = share_start(columns, unit, size, rank), 0, rows
    share.columns = share_start(columns, unit, size, rank + 1) - share.column
    return share
