#include "histogram.h"

#include <stddef.h>

/* Values below 128 have a bucket each. From there on the seven bits after the leading one choose
 * the bucket within a power of two. */
static size_t bucket_of(uint64_t value_ns)
{
    if (value_ns < HISTOGRAM_STEPS)
        return (size_t)value_ns;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value_ns) - 7u;
    return (size_t)(exponent + 1) * HISTOGRAM_STEPS + (size_t)((value_ns >> exponent) & 127u);
}

static uint64_t middle_of(size_t bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned exponent = (unsigned)(bucket / HISTOGRAM_STEPS) - 1u;
    uint64_t lowest = (uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << exponent;
    return lowest + (((uint64_t)1 << exponent) >> 1);
}

void histogram_add(struct histogram *histogram, uint64_t value_ns)
{
    size_t bucket = bucket_of(value_ns);
    histogram->counts[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
    histogram->total++;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
}

double histogram_percentile_ms(const struct histogram *histogram, double percent)
{
    if (histogram->total == 0)
        return 0.0;
    double wanted = (double)histogram->total * percent / 100.0;
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t value = middle_of(bucket);
            return (double)(value < histogram->max_ns ? value : histogram->max_ns) / 1e6;
        }
    }
    return (double)histogram->max_ns / 1e6;
}
