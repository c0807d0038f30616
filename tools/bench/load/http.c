#define _GNU_SOURCE
#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void http_begin(struct http_response *response)
{
    memset(response, 0, offsetof(struct http_response, keep));
}

bool http_ends_with_connection(const struct http_response *response)
{
    return response->state == HTTP_UNTIL_CLOSE;
}

static bool is_name(const char *name, size_t length, const char *wanted)
{
    return length == strlen(wanted) && strncasecmp(name, wanted, length) == 0;
}

static bool says(const char *value, size_t length, const char *wanted)
{
    return memmem(value, length, wanted, strlen(wanted)) != NULL;
}

static bool copy_value(char *into, const char *value, size_t length)
{
    if (length >= HTTP_MAX_VALUE)
        return false;
    memcpy(into, value, length);
    into[length] = '\0';
    return true;
}

static bool parse_length(struct http_response *response, const char *value, size_t length)
{
    uint64_t number = 0;
    if (length == 0 || length > 18)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    response->has_length = true;
    response->remaining = number;
    return true;
}

static bool parse_field(struct http_response *r, const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length);
    if (colon == NULL || colon == line)
        return false;
    size_t name = (size_t)(colon - line);
    const char *value = colon + 1, *end = line + length;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t size = (size_t)(end - value);
    if (is_name(line, name, "content-length"))
        return parse_length(r, value, size);
    if (is_name(line, name, "transfer-encoding"))
        r->chunked = size == 7 && strncasecmp(value, "chunked", 7) == 0;
    else if (is_name(line, name, "connection"))
        r->close = says(value, size, "close");
    else if (is_name(line, name, "stream-up-to-date"))
        r->up_to_date = size == 4 && strncasecmp(value, "true", 4) == 0;
    else if (is_name(line, name, "stream-closed"))
        r->closed = size == 4 && strncasecmp(value, "true", 4) == 0;
    else if (is_name(line, name, "stream-next-offset"))
        return copy_value(r->next_offset, value, size);
    else if (is_name(line, name, "stream-cursor"))
        return copy_value(r->cursor, value, size);
    else if (is_name(line, name, "location"))
        return copy_value(r->location, value, size);
    else if (is_name(line, name, "producer-epoch"))
        return copy_value(r->producer_epoch, value, size);
    else if (is_name(line, name, "producer-seq"))
        return copy_value(r->producer_seq, value, size);
    return true;
}

/* `head` ends with the empty line. */
static bool parse_head(struct http_response *response, const char *head, size_t length)
{
    if (length < 17 || memcmp(head, "HTTP/1.1 ", 9) != 0)
        return false;
    for (int i = 9; i < 12; i++)
        if (head[i] < '0' || head[i] > '9')
            return false;
    response->status = (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
    const char *line = memmem(head, length, "\r\n", 2);
    const char *end = head + length - 2;
    for (line += 2; line < end;) {
        const char *stop = memmem(line, (size_t)(head + length - line), "\r\n", 2);
        if (!parse_field(response, line, (size_t)(stop - line)))
            return false;
        line = stop + 2;
    }
    return true;
}

static enum http_state state_after_head(const struct http_response *response)
{
    if (response->status == 204 || response->status == 304)
        return HTTP_COMPLETE;
    if (response->chunked)
        return HTTP_IN_CHUNK_SIZE;
    if (!response->has_length)
        return HTTP_UNTIL_CLOSE;
    return response->remaining > 0 ? HTTP_IN_BODY : HTTP_COMPLETE;
}

/* Everything up to and with `mark`, kept over several calls if need be; NULL until it is there,
 * or if it is too long (`*bad`). */
static const char *take_until(struct http_response *r, const char **data, size_t *length,
                              const char *mark, size_t *taken, bool *bad)
{
    size_t mark_length = strlen(mark);
    if (r->kept == 0) { /* the usual case: no copy */
        const char *found = memmem(*data, *length, mark, mark_length);
        if (found != NULL) {
            const char *begin = *data;
            *taken = (size_t)(found - begin) + mark_length;
            *data += *taken;
            *length -= *taken;
            return begin;
        }
    }
    while (*length > 0) {
        if (r->kept == HTTP_MAX_HEAD) {
            *bad = true;
            return NULL;
        }
        r->keep[r->kept++] = *(*data)++;
        (*length)--;
        if (r->kept >= mark_length
            && memcmp(r->keep + r->kept - mark_length, mark, mark_length) == 0) {
            *taken = r->kept;
            r->kept = 0;
            return r->keep;
        }
    }
    return NULL;
}

static bool parse_chunk_size(struct http_response *response, const char *line, size_t length)
{
    char *end;
    if (length < 3 || length > 64 || !strchr("0123456789abcdefABCDEF", line[0]))
        return false;
    response->remaining = strtoull(line, &end, 16);
    return *end == '\r' || *end == ';';
}

static enum http_event take_line(struct http_response *r, const char **data, size_t *length)
{
    bool bad = false;
    size_t taken = 0;
    const char *mark = r->state == HTTP_IN_HEAD ? "\r\n\r\n" : "\r\n";
    const char *line = take_until(r, data, length, mark, &taken, &bad);
    if (line == NULL)
        return bad ? HTTP_BAD : HTTP_MORE;
    switch (r->state) {
    case HTTP_IN_HEAD:
        if (!parse_head(r, line, taken))
            return HTTP_BAD;
        if (r->status >= 200) {
            r->state = state_after_head(r);
            return HTTP_HEAD;
        }
        http_begin(r); /* an interim answer */
        return HTTP_BODY;
    case HTTP_IN_CHUNK_SIZE:
        if (!parse_chunk_size(r, line, taken))
            return HTTP_BAD;
        r->state = r->remaining > 0 ? HTTP_IN_CHUNK : HTTP_IN_TRAILERS;
        return HTTP_BODY;
    case HTTP_AFTER_CHUNK:
        r->state = HTTP_IN_CHUNK_SIZE;
        return taken == 2 ? HTTP_BODY : HTTP_BAD;
    default: /* HTTP_IN_TRAILERS */
        if (taken == 2)
            r->state = HTTP_COMPLETE;
        return HTTP_BODY;
    }
}

enum http_event http_next(struct http_response *r, const char **data, size_t *length,
                          const char **body, size_t *body_length)
{
    *body_length = 0;
    *body = *data;
    if (r->state == HTTP_COMPLETE)
        return HTTP_DONE;
    if (*length == 0)
        return HTTP_MORE;
    if (r->state != HTTP_IN_BODY && r->state != HTTP_IN_CHUNK && r->state != HTTP_UNTIL_CLOSE)
        return take_line(r, data, length);
    *body_length = *length;
    if (r->state != HTTP_UNTIL_CLOSE) {
        if (*body_length > r->remaining)
            *body_length = (size_t)r->remaining;
        r->remaining -= *body_length;
        if (r->remaining == 0)
            r->state = r->state == HTTP_IN_BODY ? HTTP_COMPLETE : HTTP_AFTER_CHUNK;
    }
    *data += *body_length;
    *length -= *body_length;
    return HTTP_BODY;
}
