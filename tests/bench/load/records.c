#include "records.h"

#include <string.h>

#include "pattern.h"

#define BEFORE 6 /* {"m":" */

void record_fill(char *out, size_t size, bool json, uint32_t owner, uint64_t number)
{
    if (!json) {
        pattern_fill(out, size, owner, number);
        return;
    }
    memcpy(out, "{\"m\":\"", BEFORE);
    pattern_fill(out + BEFORE, size - JSON_RECORD_OVERHEAD, owner, number);
    memcpy(out + size - 2, "\"}", 2);
}

void records_begin(struct records_check *check, bool json, uint32_t owner, size_t size)
{
    *check = (struct records_check){.json = json, .owner = owner, .size = size};
    if (json)
        record_fill(check->due, size, json, owner, 0);
}

void records_next_body(struct records_check *check)
{
    check->place = BEFORE_ARRAY;
}

bool records_body_complete(const struct records_check *check)
{
    return check->json ? check->place == AFTER_ARRAY : check->at == 0;
}

/* The part of the record that is due, from `at` on; at most to its end. */
static bool record_part(const struct records_check *check, const char *data, size_t length)
{
    if (check->json)
        return memcmp(data, check->due + check->at, length) == 0;
    return pattern_matches(data, length, check->owner, check->number, check->at);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* A byte between records; true if it may stand there. */
static bool separator(struct records_check *check, char c)
{
    switch (check->place) {
    case BEFORE_ARRAY:
        if (c == '[') {
            check->place = BEFORE_RECORD;
            return true;
        }
        break;
    case BEFORE_RECORD: /* also right after the bracket: an array may be empty */
        if (c == ']') {
            check->place = AFTER_ARRAY;
            return true;
        }
        break;
    case AFTER_RECORD:
        if (c == ',' || c == ']') {
            check->place = c == ',' ? BEFORE_RECORD : AFTER_ARRAY;
            return true;
        }
        break;
    default:
        break;
    }
    return is_space(c);
}

bool records_feed(struct records_check *check, const char *data, size_t length)
{
    while (length > 0) {
        if (check->json && check->place != IN_RECORD) {
            if (check->place == BEFORE_RECORD && *data == '{') {
                check->place = IN_RECORD;
                continue;
            }
            if (!separator(check, *data))
                return false;
            data++;
            length--;
            continue;
        }
        size_t part = check->size - check->at;
        if (part > length)
            part = length;
        if (!record_part(check, data, part))
            return false;
        data += part;
        length -= part;
        check->at += part;
        if (check->at == check->size) {
            check->at = 0;
            check->number++;
            check->place = AFTER_RECORD;
            if (check->json)
                pattern_next(check->due + BEFORE);
        }
    }
    return true;
}
