#include "sse.h"

#include <stdio.h>
#include <string.h>

void sse_reset(struct sse *sse)
{
    sse->name[0] = '\0';
    sse->data.length = sse->line.length = 0;
}

static void take_line(struct sse *sse, sse_event *event, void *context)
{
    const char *line = sse->line.data;
    size_t length = sse->line.length;
    if (length > 0 && line[length - 1] == '\r')
        length--;
    if (length == 0) {
        if (sse->data.length > 0) {
            sse->data.length--; /* the last LF */
            event(context, sse->name, buffer_text(&sse->data), sse->data.length);
        }
        sse_reset(sse);
    } else if (length >= 5 && memcmp(line, "data:", 5) == 0) {
        size_t skip = length > 5 && line[5] == ' ' ? 6 : 5;
        buffer_append(&sse->data, line + skip, length - skip);
        buffer_append(&sse->data, "\n", 1);
    } else if (length >= 6 && memcmp(line, "event:", 6) == 0) {
        size_t skip = length > 6 && line[6] == ' ' ? 7 : 6;
        snprintf(sse->name, sizeof sse->name, "%.*s", (int)(length - skip), line + skip);
    }
}

void sse_feed(struct sse *sse, const char *data, size_t length, sse_event *event, void *context)
{
    while (length > 0) {
        const char *end = memchr(data, '\n', length);
        size_t part = end == NULL ? length : (size_t)(end - data);
        buffer_append(&sse->line, data, part);
        if (end == NULL)
            return;
        take_line(sse, event, context);
        sse->line.length = 0;
        data += part + 1;
        length -= part + 1;
    }
}
