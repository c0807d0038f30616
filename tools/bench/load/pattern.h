/* What records hold, so that whoever reads them knows whose they are, which, and whether whole.
 *
 * A record of any size belongs to an owner (a connection, or a stream's only writer) and has a
 * number. It consists of pages of 4096 bytes, the last one cut. A page begins with a stamp of 32
 * bytes, "oooooooo:nnnnnnnnnnnnnnnn:ppppp|": owner, number and page in hexadecimal. The rest is
 * the same filler in each page. All bytes may stand in a JSON string. tools/bench/pattern.py
 * computes the same.
 */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_PAGE 4096
#define PATTERN_STAMP 32

/* Once, before anything else here. */
void pattern_prepare(void);

void pattern_fill(char *out, size_t size, uint32_t owner, uint64_t number);

/* Make the first page of a record that of the next number. */
void pattern_next(char *record);

/* Are these the bytes from `at` on of the record? */
bool pattern_matches(const char *data, size_t length, uint32_t owner, uint64_t number, size_t at);

/* `digits` hexadecimal digits of the value, not ended by anything. */
void put_hex(char *out, uint64_t value, int digits);

/* False unless all `digits` bytes are hexadecimal digits. */
bool get_hex(const char *text, int digits, uint64_t *value);

#endif
