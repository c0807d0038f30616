/* A clock that is CLOCK_AHEAD_S seconds ahead, or behind if that is negative.
 *
 * Preloaded, it answers whoever asks the C library for the time of day.  What durations are measured
 * by stays as it is, and so do the times of files. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

typedef int clock_function(clockid_t, struct timespec *);

static clock_function *true_clock;
static time_t ahead_s;

__attribute__((constructor)) static void begin(void)
{
    const char *told = getenv("CLOCK_AHEAD_S");
    *(void **)&true_clock = dlsym(RTLD_NEXT, "clock_gettime");
    ahead_s = told ? atol(told) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!true_clock)
        begin(); /* another library's beginning asked */
    int failed = true_clock(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *stored)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME_COARSE, &precise);
    if (stored)
        *stored = precise.tv_sec;
    return precise.tv_sec;
}
