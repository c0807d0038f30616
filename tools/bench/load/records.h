/* Records on the wire: bare, or as JSON values {"m":"..."}; and the comparison of what a stream
 * with one writer gives back, in whatever pieces it comes. */
#ifndef RECORDS_H
#define RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pattern.h"

#define JSON_RECORD_OVERHEAD 8 /* {"m":" and "} */
#define LARGEST_JSON_RECORD PATTERN_PAGE

/* Where one is in an array of records; a record begins where one is due. */
enum array_place { BEFORE_ARRAY, FIRST_DUE, NEXT_DUE, IN_RECORD, AFTER_RECORD, AFTER_ARRAY };

/* Go over a byte that is not part of a record; true if it may stand there. */
bool array_step(enum array_place *place, char c);

bool array_record_is_due(enum array_place place);

struct records_check {
    bool json;
    uint32_t owner;
    size_t size;     /* of each record */
    uint64_t number; /* of the record that is due */
    size_t at;       /* how much of it was there */
    enum array_place place;        /* JSON */
    char due[LARGEST_JSON_RECORD]; /* JSON: the record that is due */
};

void record_fill(char *out, size_t size, bool json, uint32_t owner, uint64_t number);

void records_begin(struct records_check *check, bool json, uint32_t owner, size_t size);

/* The body of an answer begins, that goes on where the one before ended. */
void records_next_body(struct records_check *check);

/* False as soon as a byte is not what was written. */
bool records_feed(struct records_check *check, const char *data, size_t length);

/* May the body of an answer end here? */
bool records_body_complete(const struct records_check *check);

#endif
