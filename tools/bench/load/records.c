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

bool array_step(enum array_place *place, char c)
{
    enum array_place before = *place;
    if (before == BEFORE_ARRAY && c == '[')
        *place = FIRST_DUE;
    else if (before == AFTER_RECORD && c == ',')
        *place = NEXT_DUE;
    else if ((before == AFTER_RECORD || before == FIRST_DUE) && c == ']')
        *place = AFTER_ARRAY;
    else
        return is_space(c);
    return true;
}

bool array_record_is_due(enum array_place place)
{
    return place == FIRST_DUE || place == NEXT_DUE;
}

bool records_feed(struct records_check *check, const char *data, size_t length)
{
    while (length > 0) {
        if (check->json && check->place != IN_RECORD) {
            if (array_record_is_due(check->place) && *data == '{') {
                check->place = IN_RECORD;
                continue;
            }
            if (!array_step(&check->place, *data))
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
