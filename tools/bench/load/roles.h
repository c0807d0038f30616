/* What connections do. Each role says in its file what it asks for and what it checks. */
#ifndef ROLES_H
#define ROLES_H

#include "engine.h"

extern const struct role fill_role;      /* write.c: create streams, with records in them */
extern const struct role append_role;    /* write.c: append records to streams that exist */
extern const struct role read_role;      /* read.c: read streams from their beginning to the end */
extern const struct role writer_role;    /* live.c: append events that carry the time */
extern const struct role sse_role;       /* live.c: follow the writer with server-sent events */
extern const struct role long_poll_role; /* live.c: follow the writer by long-polling */

#endif
