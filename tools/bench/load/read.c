/* The role that reads streams which one writer has filled (the fill role, or alike).
 *
 * Connection c begins with stream c modulo S, reads it from its beginning (offset=-1) along
 * Stream-Next-Offset until an answer says Stream-Up-To-Date, and goes on to the next stream.
 *
 * Checked: every byte of every body, that each answer brings something until the end is reached,
 * and that the end comes after exactly the records that were written.
 */
#include "roles.h"

#include <string.h>

#include "records.h"

struct reader {
    uint64_t stream;
    bool reading, broken;
    uint64_t body_bytes;
    char offset[HTTP_MAX_VALUE];
    struct records_check check;
    uint64_t passes;
};

static bool read_request(struct connection *c)
{
    struct reader *r = c->state;
    const struct options *o = &c->group->options;
    if (!r->reading) {
        r->stream = (c->number + r->passes) % o->streams;
        r->reading = true;
        strcpy(r->offset, "-1");
        records_begin(&r->check, o->json, (uint32_t)r->stream, o->size);
    }
    r->broken = false;
    r->body_bytes = 0;
    records_next_body(&r->check);
    char query[HTTP_MAX_VALUE + 16];
    snprintf(query, sizeof query, "?offset=%s", r->offset);
    request_line(c, "GET", r->stream, query);
    request_add(c, "\r\n");
    return true;
}

static void read_body(struct connection *c, const char *data, size_t length)
{
    struct reader *r = c->state;
    r->body_bytes += length;
    if (!r->broken && !records_feed(&r->check, data, length)) {
        fault(c, "stream %llu: record %llu is not what was written",
              (unsigned long long)r->stream, (unsigned long long)r->check.number);
        r->broken = true;
    }
    if (c->group->run->phase == MEASURING) /* not only once a whole answer is there */
        c->group->report.bytes += length;
}

static void read_done(struct connection *c)
{
    struct reader *r = c->state;
    const struct options *o = &c->group->options;
    unsigned long long stream = r->stream;
    if (c->response.status != 200) {
        unexpected_status(c, "a read");
        r->broken = true;
    } else if (!r->broken && !records_body_complete(&r->check)) {
        fault(c, "stream %llu: a body ends within a record", stream);
        r->broken = true;
    } else if (!r->broken && c->response.up_to_date && r->check.number != o->records) {
        fault(c, "stream %llu ends after %llu records", stream,
              (unsigned long long)r->check.number);
        r->broken = true;
    } else if (!r->broken && !c->response.up_to_date
               && (r->body_bytes == 0 || strcmp(c->response.next_offset, r->offset) == 0)) {
        fault(c, "stream %llu: an answer that does not go on, at %s", stream, r->offset);
        r->broken = true;
    }
    if (!r->broken)
        answered(c, 0, c->began_ns);
    strcpy(r->offset, c->response.next_offset);
    if (r->broken || c->response.up_to_date) {
        r->reading = false;
        r->passes++;
    }
}

static void read_lost(struct connection *c)
{
    struct reader *r = c->state;
    r->reading = false;
    r->passes++;
}

static void read_print(const struct group *g, FILE *out)
{
    uint64_t passes = 0;
    for (uint32_t i = 0; i < g->options.connections; i++)
        passes += ((const struct reader *)g->connections[i].state)->passes;
    fprintf(out, ", \"passes\": %llu", (unsigned long long)passes);
}

const struct role read_role = {
    .name = "read",
    .state_size = sizeof(struct reader),
    .request = read_request,
    .body = read_body,
    .done = read_done,
    .lost = read_lost,
    .print = read_print,
};
