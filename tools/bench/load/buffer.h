/* Bytes that grow. A zeroed one is empty. */
#ifndef BUFFER_H
#define BUFFER_H

#include <stddef.h>

struct buffer {
    char *data;
    size_t length, capacity;
};

/* Room for more bytes at the end, to be filled by the caller. */
char *buffer_extend(struct buffer *buffer, size_t more);

void buffer_append(struct buffer *buffer, const char *data, size_t length);

/* The bytes with a zero after them, which does not count. */
const char *buffer_text(struct buffer *buffer);

#endif
