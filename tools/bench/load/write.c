/* Roles that write.
 *
 * fill: take the next stream that nobody took, create it (201), append its records in batches
 * (204). The owner of the records is the stream's number. Streams 0: go on until time is up.
 *
 * append: records to streams that exist, round and round. Connection c of C sends its record k to
 * stream (c*S/C + k) modulo S, owner c, number k: so whoever reads the streams back knows exactly
 * which records must be where, and in which order. As an idempotent producer, a connection has a
 * name of its own, numbers its appends to each stream, and sends again what was not acknowledged.
 *
 * Checked: the status, that Stream-Next-Offset grows beyond every one that was acknowledged before
 * the append was sent, and what an answer to a producer echoes.
 */
#include "roles.h"

#include <stdlib.h>
#include <string.h>

#include "records.h"

#define MAX_UNSURE 1000000u

struct offset {
    char text[HTTP_MAX_VALUE];
};

/* Did the answer bring an offset beyond this one? (Offsets sort as strings: protocol section 8.) */
static bool offset_grew(struct connection *c, const char *before)
{
    if (c->response.next_offset[0] != '\0' && strcmp(c->response.next_offset, before) > 0)
        return true;
    fault(c, "Stream-Next-Offset \"%s\" does not come after \"%s\"", c->response.next_offset,
          before);
    return false;
}

static const char *content_type(const struct group *g)
{
    return g->options.json ? "application/json" : "application/octet-stream";
}

/* -------------------------------------------------------------------------------- fill */

struct fill_group {
    uint64_t taken;
    uint64_t *failed; /* streams that do not hold what they should, or not yet */
    uint64_t failed_count;
};

struct filler {
    bool has_stream, created;
    uint64_t stream, records;
    struct offset tail;
};

static void fill_start(struct group *g)
{
    struct fill_group *shared = allocate(1, sizeof *shared);
    shared->failed = allocate(MAX_UNSURE, sizeof *shared->failed);
    g->state = shared;
    g->bounded = g->options.streams > 0;
}

static void fill_post(struct connection *c, const struct filler *f)
{
    const struct options *o = &c->group->options;
    uint64_t batch = o->batch < o->records - f->records ? o->batch : o->records - f->records;
    bool array = o->json && o->batch > 1;
    size_t between = array ? 1 : 0;
    size_t length = (size_t)batch * (o->size + between) + (array ? 1 : 0);
    request_line(c, "POST", f->stream, "");
    request_add(c, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", content_type(c->group),
                length);
    char *body = buffer_extend(&c->out, length);
    for (uint64_t i = 0; i < batch; i++) {
        char *record = body + i * (o->size + between);
        if (array)
            *record++ = i == 0 ? '[' : ',';
        record_fill(record, o->size, o->json, (uint32_t)f->stream, f->records + i);
    }
    if (array)
        body[length - 1] = ']';
}

static bool fill_request(struct connection *c)
{
    struct filler *f = c->state;
    const struct options *o = &c->group->options;
    struct fill_group *shared = c->group->state;
    if (f->has_stream && f->created && f->records >= o->records)
        f->has_stream = false;
    if (!f->has_stream) {
        if (o->streams > 0 && shared->taken == o->streams)
            return false;
        *f = (struct filler){.has_stream = true, .stream = shared->taken++};
        request_line(c, "PUT", f->stream, "");
        request_add(c, "Content-Type: %s\r\nContent-Length: 0\r\n\r\n", content_type(c->group));
        return true;
    }
    fill_post(c, f);
    return true;
}

static void fill_failed(struct connection *c)
{
    struct filler *f = c->state;
    struct fill_group *shared = c->group->state;
    if (f->has_stream && shared->failed_count < MAX_UNSURE)
        shared->failed[shared->failed_count++] = f->stream;
    f->has_stream = false;
}

static void fill_done(struct connection *c)
{
    struct filler *f = c->state;
    const struct options *o = &c->group->options;
    bool creating = !f->created;
    if (c->response.status != (creating ? 201 : 204)) {
        unexpected_status(c, creating ? "a create" : "an append");
        fill_failed(c);
        return;
    }
    if (creating && c->response.next_offset[0] == '\0')
        fault(c, "a create was answered without Stream-Next-Offset");
    else if (creating || offset_grew(c, f->tail.text))
        answered(c, creating ? 0 : o->batch * o->size, c->began_ns);
    strcpy(f->tail.text, c->response.next_offset);
    if (creating)
        f->created = true;
    else
        f->records += o->batch;
}

static void fill_print(const struct group *g, FILE *out)
{
    const struct fill_group *shared = g->state;
    fprintf(out, ", \"streams\": %llu, \"failed\": [", (unsigned long long)shared->taken);
    const char *between = "";
    for (uint64_t i = 0; i < shared->failed_count; i++, between = ",")
        fprintf(out, "%s%llu", between, (unsigned long long)shared->failed[i]);
    for (uint32_t i = 0; i < g->options.connections; i++) {
        const struct filler *f = g->connections[i].state;
        if (f->has_stream && (!f->created || f->records < g->options.records)) {
            fprintf(out, "%s%llu", between, (unsigned long long)f->stream);
            between = ",";
        }
    }
    fprintf(out, "]");
}

const struct role fill_role = {
    .name = "fill",
    .state_size = sizeof(struct filler),
    .start = fill_start,
    .request = fill_request,
    .done = fill_done,
    .lost = fill_failed,
    .print = fill_print,
};

/* ------------------------------------------------------------------------------ append */

struct unsure {
    uint32_t owner;
    uint64_t number;
};

struct append_group {
    struct offset *tails; /* of each stream: the highest that was acknowledged */
    struct unsure *unsure; /* appends that may or may not have happened */
    uint64_t unsure_count;
};

struct appender {
    uint64_t number; /* of the record to be sent next, or on its way */
    uint64_t stream;
    bool again;
    struct offset before; /* the stream's tail when it was sent */
};

static void append_start(struct group *g)
{
    struct append_group *shared = allocate(1, sizeof *shared);
    shared->tails = allocate(g->options.streams, sizeof *shared->tails);
    shared->unsure = allocate(MAX_UNSURE, sizeof *shared->unsure);
    g->state = shared;
}

static bool append_request(struct connection *c)
{
    struct appender *a = c->state;
    const struct options *o = &c->group->options;
    const struct append_group *shared = c->group->state;
    uint64_t first = (uint64_t)c->number * o->streams / o->connections;
    a->stream = (first + a->number) % o->streams;
    a->before = shared->tails[a->stream];
    request_line(c, "POST", a->stream, "");
    if (o->producers)
        request_add(c, "Producer-Id: bench-%u\r\nProducer-Epoch: 0\r\nProducer-Seq: %llu\r\n",
                    c->number, (unsigned long long)(a->number / o->streams));
    request_add(c, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", content_type(c->group),
                o->size);
    record_fill(buffer_extend(&c->out, o->size), o->size, o->json, c->number, a->number);
    return true;
}

static void append_failed(struct connection *c)
{
    struct appender *a = c->state;
    struct append_group *shared = c->group->state;
    if (c->group->options.producers) {
        a->again = true;
        return;
    }
    if (shared->unsure_count < MAX_UNSURE)
        shared->unsure[shared->unsure_count++] =
            (struct unsure){.owner = c->number, .number = a->number};
    a->number++;
}

static bool producer_is_echoed(struct connection *c, uint64_t sequence)
{
    char expected[HTTP_MAX_VALUE];
    snprintf(expected, sizeof expected, "%llu", (unsigned long long)sequence);
    if (strcmp(c->response.producer_epoch, "0") == 0
        && strcmp(c->response.producer_seq, expected) == 0)
        return true;
    fault(c, "producer epoch \"%s\" and sequence \"%s\" instead of 0 and %s",
          c->response.producer_epoch, c->response.producer_seq, expected);
    return false;
}

static void append_done(struct connection *c)
{
    struct appender *a = c->state;
    const struct options *o = &c->group->options;
    struct append_group *shared = c->group->state;
    int status = c->response.status;
    bool duplicate = o->producers && a->again && status == 204;
    if (status != (o->producers ? 200 : 204) && !duplicate) {
        unexpected_status(c, "an append");
        append_failed(c);
        return;
    }
    struct offset *tail = &shared->tails[a->stream];
    /* A server need not tell where a duplicate's original ended. */
    bool good = duplicate || offset_grew(c, a->before.text);
    if (o->producers && good)
        good = producer_is_echoed(c, a->number / o->streams);
    if (good)
        answered(c, o->size, c->began_ns);
    if (strcmp(c->response.next_offset, tail->text) > 0)
        strcpy(tail->text, c->response.next_offset);
    a->again = false;
    a->number++;
}

/* Once each stream has been appended to: the first time costs more, see create-and-append. */
static bool append_warm(const struct group *g)
{
    for (uint32_t i = 0; i < g->options.connections; i++) {
        const struct appender *a = g->connections[i].state;
        if (a->number * g->options.connections < g->options.streams)
            return false;
    }
    return true;
}

static void append_print(const struct group *g, FILE *out)
{
    const struct append_group *shared = g->state;
    if (!g->options.list)
        return;
    fprintf(out, ", \"sent\": [");
    for (uint32_t i = 0; i < g->options.connections; i++) {
        const struct appender *a = g->connections[i].state;
        fprintf(out, "%s%llu", i > 0 ? "," : "", (unsigned long long)a->number);
    }
    fprintf(out, "], \"unsure\": [");
    const char *between = "";
    for (uint64_t i = 0; i < shared->unsure_count; i++, between = ",")
        fprintf(out, "%s[%u,%llu]", between, shared->unsure[i].owner,
                (unsigned long long)shared->unsure[i].number);
    for (uint32_t i = 0; i < g->options.connections; i++) {
        const struct appender *a = g->connections[i].state;
        if (a->again) {
            fprintf(out, "%s[%u,%llu]", between, i, (unsigned long long)a->number);
            between = ",";
        }
    }
    fprintf(out, "]");
}

const struct role append_role = {
    .name = "append",
    .state_size = sizeof(struct appender),
    .start = append_start,
    .request = append_request,
    .done = append_done,
    .lost = append_failed,
    .warm = append_warm,
    .print = append_print,
};
