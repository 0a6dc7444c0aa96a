/* A team: the native threads of one call. They are started in it and joined before it returns: none is idle in between,
   a fork finds none, and nothing about them is configured for the process. The calling thread is the first of them.

   All of them run the same function, and meet where one needs what others have made. Who waits spins for a moment, since
   the others are nearly there, and then sleeps. */
#ifndef BPCORE_TEAM_H
#define BPCORE_TEAM_H

#include <stdlib.h>

#include "simd.h"

#define BPCORE_MAX_TEAM 64

#if defined(__wasi__) || (defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__))
#define BPCORE_NO_THREADS
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
typedef SRWLOCK bpcore_mutex;
typedef CONDITION_VARIABLE bpcore_condition;
typedef HANDLE bpcore_thread;
#define bpcore_init_mutex(m) InitializeSRWLock(m)
#define bpcore_init_condition(c) InitializeConditionVariable(c)
#define bpcore_destroy(m, c) ((void)(m), (void)(c))
#define bpcore_lock(m) AcquireSRWLockExclusive(m)
#define bpcore_unlock(m) ReleaseSRWLockExclusive(m)
#define bpcore_sleep(c, m) SleepConditionVariableSRW(c, m, INFINITE, 0)
#define bpcore_wake(c) WakeAllConditionVariable(c)
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
typedef pthread_mutex_t bpcore_mutex;
typedef pthread_cond_t bpcore_condition;
typedef pthread_t bpcore_thread;
#define bpcore_init_mutex(m) pthread_mutex_init(m, NULL)
#define bpcore_init_condition(c) pthread_cond_init(c, NULL)
#define bpcore_destroy(m, c) (pthread_cond_destroy(c), pthread_mutex_destroy(m))
#define bpcore_lock(m) pthread_mutex_lock(m)
#define bpcore_unlock(m) pthread_mutex_unlock(m)
#define bpcore_sleep(c, m) pthread_cond_wait(c, m)
#define bpcore_wake(c) pthread_cond_broadcast(c)
#if defined(__GLIBC__) && defined(CPU_CLR)
#define BPCORE_PLACES_THREADS
#endif
#endif

/* Numbers that threads share. All accesses are sequentially consistent, which the sleepers below count on. */
#if defined(BPCORE_GNU)
typedef int bpcore_shared;
#define bpcore_get(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define bpcore_set(p, value) __atomic_store_n(p, value, __ATOMIC_SEQ_CST)
#define bpcore_add(p, value) (__atomic_fetch_add(p, value, __ATOMIC_SEQ_CST) + (value))
#else
typedef long bpcore_shared;
#define bpcore_get(p) _InterlockedOr(p, 0)
#define bpcore_set(p, value) ((void)_InterlockedExchange(p, value))
#define bpcore_add(p, value) (_InterlockedExchangeAdd(p, value) + (value))
#endif

/* Tell the processor that this thread only waits: another one of its core gets more of it. */
#if defined(__SSE2__) || defined(_M_X64)
#define bpcore_pause() _mm_pause()
#elif defined(__aarch64__) && defined(BPCORE_GNU)
#define bpcore_pause() __asm__ volatile("yield" : : : "memory")
#else
#define bpcore_pause() ((void)0)
#endif

typedef void (*bpcore_work)(void *call, int rank);

typedef struct bpcore_team {
    int size; /* threads, the calling one included; known to all of them before they compute */
#if !defined(BPCORE_NO_THREADS)
    /* Each of these on a cache line of its own: those that wait read the second. */
    bpcore_shared arrived;
    char between[60];
    bpcore_shared meeting; /* the number of this meeting */
    bpcore_shared stopped;
    bpcore_shared sleeping;
    bpcore_shared finished; /* threads that have done their work */
    bpcore_shared turn;     /* whose turn it is to add up a tile */
    bpcore_shared next;     /* the next tile that nobody has taken */
    char behind[40];
    bpcore_work work;
    void *call;
#if defined(BPCORE_PLACES_THREADS)
    int places;     /* whether threads are started on other processors than the calling one's */
    cpu_set_t cpus; /* those of the process */
#endif
    bpcore_mutex mutex;
    bpcore_condition changed;
#endif
} bpcore_team;

#if defined(BPCORE_NO_THREADS)

static inline int bpcore_team_wait(bpcore_team *team) { (void)team; return 1; }
static inline void bpcore_team_stop(bpcore_team *team) { (void)team; }
static inline int bpcore_team_stopped(bpcore_team *team) { (void)team; return 0; }
static inline int bpcore_team_take(bpcore_team *team) { (void)team; return 0; }
static inline int bpcore_team_await_turn(bpcore_team *team, int piece) { (void)team; (void)piece; return 1; }
static inline void bpcore_team_pass_turn(bpcore_team *team) { (void)team; }
static inline void bpcore_team_reset_turns(bpcore_team *team) { (void)team; }
static inline void bpcore_team_run(bpcore_team *team, int size, bpcore_work work, void *call) {
    (void)size;
    team->size = 1;
    work(call, 0);
}

#else

/* How often a thread that waits looks before it sleeps: some 50 microseconds, as long as waking it takes. */
#define BPCORE_SPINS 2000

/* Wake all that sleep. Who goes to sleep counts itself first, and looks again: so either it is counted here, or it sees
   what this thread has changed. */
static inline void bpcore_team_wake(bpcore_team *team) {
    if (bpcore_get(&team->sleeping)) {
        bpcore_lock(&team->mutex);
        bpcore_wake(&team->changed);
        bpcore_unlock(&team->mutex);
    }
}

/* Counters wrap: a call may last for days. */
static inline bpcore_shared bpcore_after(bpcore_shared count) { return (bpcore_shared)((unsigned)count + 1); }
static inline int bpcore_reached(bpcore_shared count, bpcore_shared value) {
    return (int)((unsigned)count - (unsigned)value) >= 0;
}

/* Wait until a counter of the team has reached a value, or the team is stopped. */
static inline void bpcore_team_await(bpcore_team *team, bpcore_shared *counter, bpcore_shared value) {
    for (int i = 0; i < BPCORE_SPINS; i++) {
        if (bpcore_reached(bpcore_get(counter), value) || bpcore_get(&team->stopped)) return;
        bpcore_pause();
    }
    bpcore_lock(&team->mutex);
    (void)bpcore_add(&team->sleeping, 1);
    while (!bpcore_reached(bpcore_get(counter), value) && !bpcore_get(&team->stopped)) {
        bpcore_sleep(&team->changed, &team->mutex);
    }
    (void)bpcore_add(&team->sleeping, -1);
    bpcore_unlock(&team->mutex);
}

/* Meet: wait until all threads are here. Returns whether to go on: not if one has stopped the team. */
static inline int bpcore_team_wait(bpcore_team *team) {
    bpcore_shared next = bpcore_after(bpcore_get(&team->meeting));
    if (bpcore_add(&team->arrived, 1) == team->size) { /* the last one: nobody else touches `arrived` until the next */
        bpcore_set(&team->arrived, 0);
        bpcore_set(&team->meeting, next);
        bpcore_team_wake(team);
    } else {
        bpcore_team_await(team, &team->meeting, next);
    }
    return !bpcore_get(&team->stopped);
}

/* Work in pieces that are done at the same time, and whose results are added up one after the other. Each thread takes
   the next piece, awaits its turn and passes the turn on. */
static inline int bpcore_team_take(bpcore_team *team) { return (int)bpcore_add(&team->next, 1) - 1; }
static inline int bpcore_team_await_turn(bpcore_team *team, int piece) {
    bpcore_team_await(team, &team->turn, piece);
    return !bpcore_get(&team->stopped);
}
static inline void bpcore_team_pass_turn(bpcore_team *team) {
    (void)bpcore_add(&team->turn, 1);
    bpcore_team_wake(team);
}
/* By one thread, between two meetings. */
static inline void bpcore_team_reset_turns(bpcore_team *team) {
    bpcore_set(&team->next, 0);
    bpcore_set(&team->turn, 0);
}

/* Have all threads return soon: from now on none waits for the others. */
static inline void bpcore_team_stop(bpcore_team *team) {
    if (team->size == 1) return;
    bpcore_set(&team->stopped, 1);
    bpcore_team_wake(team);
}

static inline int bpcore_team_stopped(bpcore_team *team) { return (int)bpcore_get(&team->stopped); }

typedef struct bpcore_member {
    bpcore_team *team;
    int rank;
    bpcore_thread thread;
} bpcore_member;

/* A thread begins when all have been started, and the size of the team is known: that is the first meeting. */
static inline void bpcore_member_work(bpcore_member *member) {
    bpcore_team *team = member->team;
#if defined(BPCORE_PLACES_THREADS)
    if (team->places) sched_setaffinity(0, sizeof team->cpus, &team->cpus); /* from here on it may be moved anywhere */
#endif
    bpcore_team_await(team, &team->meeting, 1);
    team->work(team->call, member->rank);
    (void)bpcore_add(&team->finished, 1);
}

#if defined(_WIN32)

static DWORD WINAPI bpcore_member_main(void *member) {
    bpcore_member_work((bpcore_member *)member);
    return 0;
}
static inline int bpcore_member_start(bpcore_member *member) {
    member->thread = CreateThread(NULL, 0, bpcore_member_main, member, 0, NULL);
    return member->thread != NULL;
}
static inline void bpcore_member_join(bpcore_member *member) {
    WaitForSingleObject(member->thread, INFINITE);
    CloseHandle(member->thread);
}
static inline int bpcore_start_all(bpcore_member *members, int size) {
    int rank = 1;
    while (rank < size && bpcore_member_start(&members[rank])) rank++;
    return rank;
}

#else

static void *bpcore_member_main(void *member) {
    bpcore_member_work((bpcore_member *)member);
    return NULL;
}

/* A thread that is about to end does so before one that sleeps could be woken. */
static inline void bpcore_member_join(bpcore_member *member) {
#if defined(__GLIBC__)
    for (int i = 0; i < BPCORE_SPINS; i++) {
        if (pthread_tryjoin_np(member->thread, NULL) == 0) return;
        bpcore_pause();
    }
#endif
    pthread_join(member->thread, NULL);
}

/* Start a thread on another processor than this one's. Left to itself, Linux often starts it here, where it waits until
   this thread sleeps. `cpus`: those of the process. */
#if defined(BPCORE_PLACES_THREADS)
static inline int bpcore_member_start(bpcore_member *member, const cpu_set_t *cpus) {
    pthread_attr_t attributes;
    cpu_set_t others = *cpus;
    int here = sched_getcpu(), started = 0;
    if (here >= 0 && here < CPU_SETSIZE) CPU_CLR(here, &others);
    if (CPU_COUNT(&others) > 0 && pthread_attr_init(&attributes) == 0) {
        started = pthread_attr_setaffinity_np(&attributes, sizeof others, &others) == 0 &&
                  pthread_create(&member->thread, &attributes, bpcore_member_main, member) == 0;
        pthread_attr_destroy(&attributes);
    }
    return started || pthread_create(&member->thread, NULL, bpcore_member_main, member) == 0;
}
#endif

/* Start all threads but the first; returns how many there are with it. They take no signals: a handler may count on a
   thread that Python knows. */
static inline int bpcore_start_all(bpcore_member *members, int size) {
    int rank = 1;
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return 1;
#if defined(BPCORE_PLACES_THREADS)
    bpcore_team *team = members[1].team;
    team->places = sched_getaffinity(0, sizeof team->cpus, &team->cpus) == 0;
    while (team->places && rank < size && bpcore_member_start(&members[rank], &team->cpus)) rank++;
    if (team->places) size = rank;
#endif
    while (rank < size && pthread_create(&members[rank].thread, NULL, bpcore_member_main, &members[rank]) == 0) rank++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rank;
}

#endif

/* Run `work` in `size` threads, or in as many as the system allows, and return when all are done. */
static void bpcore_team_run(bpcore_team *team, int size, bpcore_work work, void *call) {
    bpcore_member members[BPCORE_MAX_TEAM];
    int rank;
    team->size = 1;
    team->arrived = team->meeting = team->stopped = team->sleeping = 0;
    team->finished = team->turn = team->next = 0;
    if (size <= 1) {
        work(call, 0);
        return;
    }
    team->work = work;
    team->call = call;
    bpcore_init_mutex(&team->mutex);
    bpcore_init_condition(&team->changed);
    for (rank = 1; rank < size; rank++) {
        members[rank].team = team;
        members[rank].rank = rank;
    }
    team->size = bpcore_start_all(members, size);
    bpcore_set(&team->meeting, 1);
    bpcore_team_wake(team);
    work(call, 0);
    for (int i = 0; i < BPCORE_SPINS && bpcore_get(&team->finished) < team->size - 1; i++) bpcore_pause();
    for (rank = 1; rank < team->size; rank++) bpcore_member_join(&members[rank]);
    bpcore_destroy(&team->mutex, &team->changed);
}

#endif
#endif
