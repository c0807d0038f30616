/* Roles around live delivery. An event is a JSON value {"t":"...","m":"..."}: the time it was sent
 * at, in hexadecimal nanoseconds, and a record that bears its number.
 *
 * writer: one connection, so many appends a second, to stream 0. If the one before is still on its
 * way when the next is due, that one waits and those that became due meanwhile are left out
 * ("missed"): a slow server gets fewer events rather than ever older ones.
 *
 * sse, long-poll: follow stream c modulo S from its beginning or its tail, over any number of
 * answers.
 *
 * Checked: every event arrives whole, once, and in order, at each reader; at the end each has got
 * all that were acknowledged.
 */
#include "roles.h"

#include <string.h>

#include "pattern.h"
#include "records.h"
#include "sse.h"

#define EVENT_OWNER 0xe0e0e0e0u
#define EVENT_PREFIX 29 /* {"t":"0123456789abcdef","m":" */
#define EVENT_SUFFIX 2

/* ------------------------------------------------------------------------------ writer */

struct writer {
    uint64_t number;
    char tail[HTTP_MAX_VALUE];
};

static bool writer_request(struct connection *c)
{
    const struct writer *w = c->state;
    size_t size = c->group->options.size;
    request_line(c, "POST", 0, "");
    request_add(c, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", size);
    char *body = buffer_extend(&c->out, size);
    memcpy(body, "{\"t\":\"0123456789abcdef\",\"m\":\"", EVENT_PREFIX);
    pattern_fill(body + EVENT_PREFIX, size - EVENT_PREFIX - EVENT_SUFFIX, EVENT_OWNER, w->number);
    memcpy(body + size - EVENT_SUFFIX, "\"}", EVENT_SUFFIX);
    c->began_ns = clock_ns();
    put_hex(body + 6, c->began_ns, 16);
    return true;
}

static void writer_done(struct connection *c)
{
    struct writer *w = c->state;
    if (c->response.status != 204) {
        unexpected_status(c, "an event");
        return;
    }
    if (strcmp(c->response.next_offset, w->tail) <= 0)
        fault(c, "Stream-Next-Offset \"%s\" does not come after \"%s\"", c->response.next_offset,
              w->tail);
    else
        answered(c, c->group->options.size, c->began_ns);
    strcpy(w->tail, c->response.next_offset);
    w->number++;
    c->group->run->events = w->number;
}

static void writer_print(const struct group *g, FILE *out)
{
    fprintf(out, ", \"missed\": %llu", (unsigned long long)g->missed);
}

const struct role writer_role = {
    .name = "writer",
    .state_size = sizeof(struct writer),
    .request = writer_request,
    .done = writer_done,
    .print = writer_print,
};

/* ----------------------------------------------------------------------------- readers */

struct follower {
    uint64_t expected; /* the number of the event that is due */
    bool ready, broken;
    char offset[HTTP_MAX_VALUE];
    char cursor[HTTP_MAX_VALUE];
    struct sse sse;
    struct buffer body;  /* of a long-poll */
};

static bool take_event(struct connection *c, const char *data, size_t size)
{
    struct follower *f = c->state;
    uint64_t sent_ns;
    if (memcmp(data, "{\"t\":\"", 6) != 0 || !get_hex(data + 6, 16, &sent_ns)
        || memcmp(data + 22, "\",\"m\":\"", 7) != 0
        || memcmp(data + size - EVENT_SUFFIX, "\"}", EVENT_SUFFIX) != 0
        || !pattern_matches(data + EVENT_PREFIX, size - EVENT_PREFIX - EVENT_SUFFIX, EVENT_OWNER,
                            f->expected, 0))
        return false;
    f->expected++;
    answered(c, size, sent_ns);
    return true;
}

/* An array of events, which go on where the ones before ended. */
static void take_array(struct connection *c, const char *data, size_t length)
{
    struct follower *f = c->state;
    size_t size = c->group->options.size;
    const char *end = data + length;
    if (f->broken)
        return; /* one report for a reader */
    enum array_place place = BEFORE_ARRAY;
    while (data < end) {
        if (array_record_is_due(place) && (size_t)(end - data) > size && take_event(c, data, size)) {
            data += size;
            place = AFTER_RECORD;
        } else if (array_step(&place, *data)) {
            data++;
        } else {
            break;
        }
    }
    if (place != AFTER_ARRAY || data < end) {
        fault(c, "event %llu of %llu is not what came: %.60s", (unsigned long long)f->expected,
              (unsigned long long)c->group->run->events, length > 0 ? data : "nothing");
        f->broken = true;
    }
}

static bool follow_request(struct connection *c, const char *mode)
{
    struct follower *f = c->state;
    char query[3 * HTTP_MAX_VALUE];
    const char *beginning = c->group->options.now ? "now" : "-1";
    snprintf(query, sizeof query, "?offset=%s&live=%s%s%s", f->offset[0] ? f->offset : beginning,
             mode, f->cursor[0] ? "&cursor=" : "", f->cursor);
    request_line(c, "GET", c->number % c->group->options.streams, query);
    request_add(c, "\r\n");
    return true;
}

static bool follow_ready(const struct connection *c)
{
    return ((const struct follower *)c->state)->ready;
}

/* A reader that lacks events, or has others, has already been reported or is now. */
static bool follow_satisfied(struct group *g, bool final)
{
    bool all = true;
    for (uint32_t i = 0; i < g->options.connections; i++) {
        const struct follower *f = g->connections[i].state;
        if (f->broken || f->expected >= g->run->events)
            continue;
        all = false;
        if (!final)
            break;
        fault(&g->connections[i], "%llu of %llu events arrived", (unsigned long long)f->expected,
              (unsigned long long)g->run->events);
    }
    return all;
}

/* The value of a string member of a control event, which is flat. */
static bool member(const char *data, const char *key, char *into)
{
    const char *begin = strstr(data, key);
    if (begin == NULL)
        return false;
    begin += strlen(key);
    while (*begin == ' ' || *begin == ':')
        begin++;
    if (*begin++ != '"')
        return false;
    const char *end = strchr(begin, '"');
    if (end == NULL || end - begin >= HTTP_MAX_VALUE)
        return false;
    memcpy(into, begin, (size_t)(end - begin));
    into[end - begin] = '\0';
    return true;
}

static void sse_arrived(void *context, const char *name, const char *data, size_t length)
{
    struct connection *c = context;
    struct follower *f = c->state;
    if (strcmp(name, "data") == 0) {
        take_array(c, data, length);
    } else if (strcmp(name, "control") == 0) {
        if (!member(data, "\"streamNextOffset\"", f->offset))
            fault(c, "a control event without streamNextOffset: %.80s", data);
        member(data, "\"streamCursor\"", f->cursor);
        f->ready = true;
    } else {
        fault(c, "an event of an unknown kind: %s", name);
    }
}

static bool sse_request(struct connection *c)
{
    sse_reset(&((struct follower *)c->state)->sse);
    return follow_request(c, "sse");
}

static void sse_body(struct connection *c, const char *data, size_t length)
{
    sse_feed(&((struct follower *)c->state)->sse, data, length, sse_arrived, c);
}

static void sse_done(struct connection *c)
{
    if (c->response.status != 200)
        unexpected_status(c, "an event stream");
}

const struct role sse_role = {
    .name = "sse",
    .early = true,
    .tireless = true,
    .state_size = sizeof(struct follower),
    .request = sse_request,
    .body = sse_body,
    .done = sse_done,
    .ready = follow_ready,
    .satisfied = follow_satisfied,
};

static bool long_poll_request(struct connection *c)
{
    ((struct follower *)c->state)->body.length = 0;
    return follow_request(c, "long-poll");
}

static void long_poll_body(struct connection *c, const char *data, size_t length)
{
    buffer_append(&((struct follower *)c->state)->body, data, length);
}

static void long_poll_done(struct connection *c)
{
    struct follower *f = c->state;
    if (c->response.status == 200)
        take_array(c, buffer_text(&f->body), f->body.length);
    else if (c->response.status != 204)
        unexpected_status(c, "a long-poll");
    if (c->response.next_offset[0] == '\0')
        fault(c, "a long-poll was answered without Stream-Next-Offset");
    else
        strcpy(f->offset, c->response.next_offset);
    strcpy(f->cursor, c->response.cursor);
}

const struct role long_poll_role = {
    .name = "long-poll",
    .early = true,
    .tireless = true,
    .state_size = sizeof(struct follower),
    .request = long_poll_request,
    .body = long_poll_body,
    .done = long_poll_done,
    .satisfied = follow_satisfied,
};
