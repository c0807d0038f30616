/* Latencies in buckets whose width grows with the value: each value is known to better than 1 %. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 128 /* buckets for each power of two */
#define HISTOGRAM_BUCKETS (58 * HISTOGRAM_STEPS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max_ns;
};

void histogram_add(struct histogram *histogram, uint64_t value_ns);

/* The value that `percent` of the values do not exceed, in milliseconds; 0 if there are none. */
double histogram_percentile_ms(const struct histogram *histogram, double percent);

#endif
