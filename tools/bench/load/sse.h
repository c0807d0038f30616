/* Server-sent events from the bytes of a body, in whatever pieces they come. */
#ifndef SSE_H
#define SSE_H

#include "buffer.h"

struct sse {
    char name[16];
    struct buffer data; /* of the event so far, an LF after each line */
    struct buffer line; /* so far */
};

/* `data` has a zero after it. */
typedef void sse_event(void *context, const char *name, const char *data, size_t length);

/* Calls back for each event that has become complete. */
void sse_feed(struct sse *sse, const char *data, size_t length, sse_event *event, void *context);

/* Forget an event that has begun: the connection ended. */
void sse_reset(struct sse *sse);

#endif
