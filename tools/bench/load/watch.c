/* Two sources, as each lacks what the other has.
 *
 * The CPU clock of the process counts what the scheduler gave to its threads, in nanoseconds, and
 * keeps what those had that have ended (a sum over /proc/PID/task would lose it). It does not know
 * user from system. /proc/PID/stat does, in ticks of 10 ms that most kernels find by looking every
 * few milliseconds at what the process is doing.
 */
#define _GNU_SOURCE
#include "watch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static bool read_ticks(pid_t pid, struct cpu_time *time)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *after_name = strrchr(text, ')'); /* a name may hold anything, spaces too */
    unsigned long long user, system;
    if (after_name == NULL
        || sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                  &system) != 2)
        return false;
    time->user_ticks = user;
    time->system_ticks = system;
    return true;
}

bool cpu_time_of(pid_t pid, struct cpu_time *time)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return false;
    time->total_ns = (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
    return read_ticks(pid, time);
}
