/* Connections, and the one loop that drives them: epoll, keep-alive, one request at a time each.
 *
 * A run consists of groups of connections, each with a role: what it asks for, and how it checks
 * the answers. A run has phases. While settling, only readers that must be there before anybody
 * writes are at work; then all warm up, unmeasured; then the clock runs; then no new request is
 * sent, and what is on its way is waited for.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdio.h>

#include "buffer.h"
#include "histogram.h"
#include "http.h"
#include "watch.h"

#define MAX_GROUPS 4
#define MAX_KEPT_ERRORS 5
#define MAX_ERROR_TEXT 240

enum phase { SETTLING, WARMING, MEASURING, DRAINING };

struct options { /* of a group; what they mean depends on its role */
    const char *name;  /* the streams are prefix/name/n/1000/n */
    uint32_t connections;
    uint64_t streams;  /* 0: as many as time allows */
    uint64_t records;  /* in each stream */
    size_t size;       /* of a record */
    uint64_t batch;    /* records in one request */
    double rate;       /* requests a second; 0: as many as possible */
    bool json;
    bool producers;
    bool now;          /* follow from the tail on, not from the beginning */
    bool list;         /* print what was sent, for whoever reads it back */
};

struct report {
    uint64_t requests; /* answered as they should be while measuring */
    uint64_t bytes;    /* of records, sent or received, while measuring */
    uint64_t checked;  /* answers or events that were compared with what they should be */
    uint64_t errors;
    char first_errors[MAX_KEPT_ERRORS][MAX_ERROR_TEXT];
    struct histogram latencies;
};

struct connection {
    struct group *group;
    uint32_t number; /* within its group */
    int fd;
    bool busy;       /* a request is on its way */
    bool watched_for_room;
    uint64_t reopen_ns;
    uint64_t began_ns; /* when the request on its way was sent */
    struct buffer out;
    size_t out_sent;
    struct http_response response;
    char refusal[120]; /* the beginning of an unexpected body, for the error's text */
    void *state;       /* the role's */
};

struct role {
    const char *name;
    bool early;    /* at work while the others wait for it to settle */
    bool tireless; /* goes on asking while the run is drained, until `satisfied` */
    size_t state_size;
    void (*start)(struct group *group);
    /* Put the next request into the connection's buffer; false if there is none (now). */
    bool (*request)(struct connection *connection);
    void (*body)(struct connection *connection, const char *data, size_t length);
    /* The answer is complete. */
    void (*done)(struct connection *connection);
    /* It never will be. */
    void (*lost)(struct connection *connection);
    bool (*ready)(const struct connection *connection);
    /* Did the group do what it has to do before anything is measured? */
    bool (*warm)(const struct group *group);
    bool (*satisfied)(struct group *group, bool final);
    void (*print)(const struct group *group, FILE *out);
};

struct group {
    struct run *run;
    const struct role *role;
    struct options options;
    struct report report;
    struct connection *connections;
    bool bounded;     /* ends by itself; then no clock ends it */
    uint64_t due_ns;  /* of the next request, if there is a rate */
    uint64_t missed;  /* requests that were not sent in time as the one before took too long */
    void *state;
};

struct run {
    const char *host;
    int port;
    const char *prefix;
    const char *token; /* sent with every request, or NULL */
    double settle_s, warmup_s, patience_s, seconds, grace_s;
    bool hold; /* until standard input ends, in the phase of settling */
    enum phase phase;
    uint64_t now_ns, phase_end_ns, measure_begin_ns, measure_end_ns;
    pid_t watched; /* whose CPU time is read as measuring begins and ends; 0: nobody's */
    bool cpu_known; /* both times */
    struct cpu_time cpu_begin, cpu_end;
    int epoll_fd;
    bool any_closed;
    uint64_t events; /* that writers had acknowledged, for those who wait for them */
    struct group groups[MAX_GROUPS];
    size_t group_count;
};

/* All of it; the reports are filled in. */
void run_groups(struct run *run);

uint64_t clock_ns(void);
void *allocate(size_t count, size_t size); /* zeroed; ends the program if there is no memory */

/* For roles: put a request together, and tell what is wrong with an answer. */
void request_begin(struct connection *connection);
__attribute__((format(printf, 2, 3))) void request_add(struct connection *connection,
                                                        const char *format, ...);
void request_line(struct connection *connection, const char *method, uint64_t stream,
                  const char *query);
__attribute__((format(printf, 2, 3))) void fault(struct connection *connection, const char *format,
                                                 ...);
/* Count an answer, or an event of one sent at `began_ns`, that is as it should be. */
void answered(struct connection *connection, uint64_t bytes, uint64_t began_ns);
void unexpected_status(struct connection *connection, const char *request);

#endif
