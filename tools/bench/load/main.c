/* The load client of scripts/bench: one process, one thread, epoll.
 *
 *   load --port PORT [--prefix /v1/stream] [--token TEXT] [--seconds S] [--warmup S] [--settle S]
 *        [--grace S] [--watch PID] [--hold] ROLE [option...] [ROLE [option...]]...
 *
 * Roles are listed in roles.h, their options below; `struct options` says what they mean. Prints
 * one line of JSON with a report for each group; with --watch each tells what CPU time that process
 * used, all its threads together, while the run was measured (watch.c). Ends with 0 even if answers
 * were wrong: that is what the report says; 2 if it could not be run.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "pattern.h"
#include "records.h"
#include "roles.h"

#define SMALLEST_RECORD 64 /* room for a stamp, and for what JSON and events have around it */

static const struct role *const roles[] = {
    &fill_role, &append_role, &read_role, &writer_role, &sse_role, &long_poll_role,
};

static void usage(const char *problem, const char *what)
{
    fprintf(stderr, "load: %s: %s\n", problem, what);
    exit(2);
}

static double number(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || value < 0)
        usage("not a number", text);
    return value;
}

static bool run_option(struct run *run, const char *name, const char *value)
{
    if (strcmp(name, "--port") == 0)
        run->port = (int)number(value);
    else if (strcmp(name, "--prefix") == 0)
        run->prefix = value;
    else if (strcmp(name, "--token") == 0)
        run->token = value;
    else if (strcmp(name, "--seconds") == 0)
        run->seconds = number(value);
    else if (strcmp(name, "--warmup") == 0)
        run->warmup_s = number(value);
    else if (strcmp(name, "--patience") == 0)
        run->patience_s = number(value);
    else if (strcmp(name, "--settle") == 0)
        run->settle_s = number(value);
    else if (strcmp(name, "--grace") == 0)
        run->grace_s = number(value);
    else if (strcmp(name, "--watch") == 0)
        run->watched = (pid_t)number(value);
    else
        return false;
    return true;
}

static bool group_option(struct options *options, const char *name, const char *value)
{
    if (strcmp(name, "--name") == 0)
        options->name = value;
    else if (strcmp(name, "--connections") == 0)
        options->connections = (uint32_t)number(value);
    else if (strcmp(name, "--streams") == 0)
        options->streams = (uint64_t)number(value);
    else if (strcmp(name, "--records") == 0)
        options->records = (uint64_t)number(value);
    else if (strcmp(name, "--size") == 0)
        options->size = (size_t)number(value);
    else if (strcmp(name, "--batch") == 0)
        options->batch = (uint64_t)number(value);
    else if (strcmp(name, "--rate") == 0)
        options->rate = number(value);
    else
        return false;
    return true;
}

static bool switch_option(struct run *run, struct group *group, const char *name)
{
    if (group == NULL && strcmp(name, "--hold") == 0)
        run->hold = true;
    else if (group != NULL && strcmp(name, "--json") == 0)
        group->options.json = true;
    else if (group != NULL && strcmp(name, "--producers") == 0)
        group->options.producers = true;
    else if (group != NULL && strcmp(name, "--now") == 0)
        group->options.now = true;
    else if (group != NULL && strcmp(name, "--list") == 0)
        group->options.list = true;
    else
        return false;
    return true;
}

static struct group *add_group(struct run *run, const char *name)
{
    if (run->group_count == MAX_GROUPS)
        usage("too many groups", name);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(roles[i]->name, name) != 0)
            continue;
        struct group *group = &run->groups[run->group_count++];
        group->role = roles[i];
        group->options = (struct options){
            .name = "bench", .connections = 1, .streams = 1, .size = 256, .batch = 1};
        return group;
    }
    usage("unknown role", name);
    return NULL;
}

static void parse(struct run *run, int count, char **arguments)
{
    struct group *group = NULL;
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i];
        if (strncmp(name, "--", 2) != 0) {
            group = add_group(run, name);
            continue;
        }
        if (switch_option(run, group, name))
            continue;
        if (i + 1 == count)
            usage("unknown option, or one without its value", name);
        const char *value = arguments[++i];
        if (group == NULL ? !run_option(run, name, value)
                          : !group_option(&group->options, name, value))
            usage("unknown option", name);
    }
    if (run->group_count == 0 || run->port == 0)
        usage("needed", "--port and a role");
    for (size_t i = 0; i < run->group_count; i++) {
        const struct options *options = &run->groups[i].options;
        if (options->size < SMALLEST_RECORD || options->connections == 0 || options->batch == 0)
            usage("too small", "--size, --connections or --batch");
        if (options->json && options->size > LARGEST_JSON_RECORD)
            usage("too large for --json", "--size");
        if (options->streams == 0 && run->groups[i].role != &fill_role)
            usage("needed", "--streams");
    }
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void print_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else
            putchar(byte < ' ' || byte > '~' ? '?' : byte);
    }
    putchar('"');
}

static void print_cpu(const struct run *run)
{
    const struct cpu_time *begin = &run->cpu_begin, *end = &run->cpu_end;
    printf(", \"cpu_s\": %.9f, \"user_ticks\": %llu, \"system_ticks\": %llu",
           (double)(end->total_ns - begin->total_ns) / 1e9,
           (unsigned long long)(end->user_ticks - begin->user_ticks),
           (unsigned long long)(end->system_ticks - begin->system_ticks));
}

static void print_group(const struct group *group, double seconds)
{
    const struct report *report = &group->report;
    const struct histogram *latencies = &report->latencies;
    printf("{\"role\": \"%s\", \"connections\": %u, \"requests\": %llu, \"errors\": %llu, "
           "\"checked\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"rate\": %.3f",
           group->role->name, group->options.connections, (unsigned long long)report->requests,
           (unsigned long long)report->errors, (unsigned long long)report->checked,
           (unsigned long long)report->bytes, seconds,
           seconds > 0 ? (double)report->requests / seconds : 0.0);
    static const struct { const char *name; double percent; } percentiles[] = {
        {"p50_ms", 50}, {"p90_ms", 90}, {"p99_ms", 99}, {"p999_ms", 99.9}};
    for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++)
        printf(", \"%s\": %.4f", percentiles[i].name,
               histogram_percentile_ms(latencies, percentiles[i].percent));
    printf(", \"max_ms\": %.4f, \"first_errors\": [", (double)latencies->max_ns / 1e6);
    for (uint64_t i = 0; i < report->errors && i < MAX_KEPT_ERRORS; i++) {
        if (i > 0)
            printf(", ");
        print_text(report->first_errors[i]);
    }
    printf("]");
    if (group->run->cpu_known)
        print_cpu(group->run);
    if (group->role->print != NULL)
        group->role->print(group, stdout);
    printf("}");
}

int main(int count, char **arguments)
{
    static struct run run = {
        .host = "127.0.0.1",
        .prefix = "/v1/stream",
        .patience_s = 60,
        .seconds = 1,
        .grace_s = 30,
    };
    parse(&run, count, arguments);
    raise_file_limit();
    pattern_prepare();
    run_groups(&run);
    double seconds = (double)(run.measure_end_ns - run.measure_begin_ns) / 1e9;
    printf("{\"groups\": [");
    for (size_t i = 0; i < run.group_count; i++) {
        if (i > 0)
            printf(", ");
        print_group(&run.groups[i], seconds);
    }
    printf("]}\n");
    return ferror(stdout) ? 2 : 0;
}
