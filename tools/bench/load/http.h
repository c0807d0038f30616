/* An HTTP/1.1 answer, piece by piece as its bytes arrive (RFC 9112): no I/O here. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_MAX_HEAD 8192
#define HTTP_MAX_VALUE 128

enum http_state {
    HTTP_IN_HEAD,
    HTTP_IN_BODY,       /* `remaining` bytes of it to come */
    HTTP_UNTIL_CLOSE,   /* a body that the end of the connection ends */
    HTTP_IN_CHUNK_SIZE,
    HTTP_IN_CHUNK,
    HTTP_AFTER_CHUNK,
    HTTP_IN_TRAILERS,
    HTTP_COMPLETE,
};

enum http_event { HTTP_MORE, HTTP_HEAD, HTTP_BODY, HTTP_DONE, HTTP_BAD };

struct http_response {
    enum http_state state;
    uint64_t remaining;
    int status;
    bool has_length;
    bool chunked;
    bool close;
    bool up_to_date;     /* Stream-Up-To-Date: true */
    bool closed;         /* Stream-Closed: true */
    char next_offset[HTTP_MAX_VALUE];
    char cursor[HTTP_MAX_VALUE];
    char location[HTTP_MAX_VALUE];
    char producer_epoch[HTTP_MAX_VALUE];
    char producer_seq[HTTP_MAX_VALUE];
    size_t kept;         /* bytes of a line or a head that has not fully arrived */
    char keep[HTTP_MAX_HEAD];
};

/* Before each answer. */
void http_begin(struct http_response *response);

/* Take the next piece from `*data`, `*length`, which are moved past it. After HTTP_BODY, `*body`
 * and `*body_length` lie within the data. HTTP_DONE comes once, HTTP_MORE when all is used up. */
enum http_event http_next(struct http_response *response, const char **data, size_t *length,
                          const char **body, size_t *body_length);

/* Is the end of the connection the proper end of this answer? */
bool http_ends_with_connection(const struct http_response *response);

#endif
