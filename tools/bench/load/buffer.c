#include "buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(struct buffer *buffer, size_t more)
{
    if (buffer->length + more <= buffer->capacity)
        return;
    buffer->capacity = (buffer->length + more) * 2;
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (buffer->data == NULL) {
        fprintf(stderr, "load: out of memory\n");
        exit(2);
    }
}

char *buffer_extend(struct buffer *buffer, size_t more)
{
    reserve(buffer, more);
    buffer->length += more;
    return buffer->data + buffer->length - more;
}

void buffer_append(struct buffer *buffer, const char *data, size_t length)
{
    memcpy(buffer_extend(buffer, length), data, length);
}

const char *buffer_text(struct buffer *buffer)
{
    reserve(buffer, 1);
    buffer->data[buffer->length] = '\0';
    return buffer->data;
}
