/* The CPU time of another process, that of all its threads. */
#ifndef WATCH_H
#define WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Since the process began. The clock counts nanoseconds; the ticks only tell how to split them. */
struct cpu_time {
    uint64_t total_ns;
    uint64_t user_ticks, system_ticks;
};

/* False if the process is not there, or not readable. */
bool cpu_time_of(pid_t pid, struct cpu_time *time);

#endif
